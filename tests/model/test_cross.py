"""The cross-encoders give the numbers that the original code of UNITER and Oscar gave, and those of a padded loop.

Tolerances: 1e-5 absolute for vectors, scores and losses (float32 sums in another order; the originals differ from
their own float64 by 5e-7), 1e-6 between packed and padded.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shopwindow.data.regions import Regions
from shopwindow.model.cross import CrossPairs, Kind, box_shares
from shopwindow.model.cross_checkpoint import load_original
from shopwindow.model.cross_heads import KINDS, CrossModel
from shopwindow.model.towers import EncoderSize
from tests.model.cross_golden import arrays, golden, oscar_pairs, slots, uniter_pairs

UNITER_FILES = [
    ("weights_2048.safetensors", "forward_2048.npz", 2),
    ("weights_retrieval.safetensors", "forward_retrieval.npz", 4),
    *[("weights_pretrain.safetensors", f"pretrain_{task}.npz", 4) for task in ("mlm", "mrfr", "mrc", "itm")],
]
OSCAR_FILES = [
    ("weights_2054.safetensors", "forward_2054.npz", 2, 2048),
    ("weights_retrieval_ln1.safetensors", "forward_CLR_ln1.npz", 4, 58),
    ("weights_retrieval_ln0.safetensors", "forward_CLR_ln0.npz", 4, 58),
    ("weights_pretrain.safetensors", "pretrain.npz", 4, 58),
]
SIZE = EncoderSize(hidden=32, layers=2, heads=4, inner=48, dropout=0.0)
FEATURES, VOCABULARY = 10, 40


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, wanted.to(got.dtype), atol=tolerance, rtol=0)


def check_layers(model: CrossModel, pairs: CrossPairs, wanted: list[tuple[Tensor, Tensor]]) -> None:
    """What enters the encoder, then what each layer gives: tokens, then regions."""
    hidden, layout, places = model.body.embed(pairs)
    count = len(pairs.tokens)
    steps = [hidden]
    for layer in model.body.encoder.layer:
        steps.append(layer(steps[-1], steps[-1], layout))
    assert len(wanted) == len(steps)
    for step, (words, regions) in zip(steps, wanted, strict=True):
        close(step[places][:count], words)
        close(step[places][count:], regions)


@torch.no_grad()
@pytest.mark.parametrize(("weights", "forward", "heads"), UNITER_FILES)
def test_uniter_gives_the_originals_embeddings_layers_and_scores(
    weights: str, forward: str, heads: int
) -> None:
    model = load_original(golden("uniter", weights), "uniter", attention_heads=heads)
    batch = arrays("uniter", forward, "batch.")
    wanted = arrays("uniter", forward)
    pairs, words, kept = uniter_pairs(batch)
    names = ["emb", *(f"layer.{i}" for i in range(len(model.body.encoder.layer)))]
    check_layers(model, pairs, [slots(wanted[name], words, kept, uniter=True) for name in names])
    close(model.body(pairs).pooled, wanted["pooled"])
    close(model.body.pooled(pairs), wanted["pooled"])
    if "rank_scores" in wanted:
        close(model.score(pairs), wanted["rank_scores"][:, 0])
    if "rank_scores_f64" in wanted:
        close(model.double().score(pairs), wanted["rank_scores_f64"][:, 0], 1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("weights", "forward", "heads", "features"), OSCAR_FILES)
def test_oscar_gives_the_originals_embeddings_layers_and_scores(
    weights: str, forward: str, heads: int, features: int
) -> None:
    model = load_original(golden("oscar", weights), "oscar", attention_heads=heads)
    wanted = arrays("oscar", forward)
    pairs, words, kept = oscar_pairs(arrays("oscar", forward, "batch."), features=features)
    names = [f"hidden.{i}" for i in range(len(model.body.encoder.layer) + 1)]
    check_layers(model, pairs, [slots(wanted[name], words, kept, uniter=False) for name in names])
    close(model.body(pairs).pooled, wanted["pooled"])
    if "logits" in wanted:
        close(model.score(pairs), wanted["logits"][:, 1] - wanted["logits"][:, 0])
        close(model.heads["match"](model.body.pooled(pairs)), wanted["logits"])
    if "match_prob" in wanted:
        close(model.score(pairs).sigmoid(), wanted["match_prob"])


def without(pairs: CrossPairs, *, tags: bool, regions: bool) -> CrossPairs:
    """The same pairs without their tags, or without their regions."""
    tokens, lengths, types, seen = pairs.tokens, pairs.lengths, pairs.types, pairs.regions
    assert types is not None
    if tags:
        owners = torch.arange(len(lengths)).repeat_interleave(lengths)
        lengths = torch.bincount(owners[types == 0], minlength=len(lengths))
        tokens, types = tokens[types == 0], types[types == 0]
    if regions:
        none = torch.empty(0, dtype=torch.int64)
        seen = seen.take_regions(none, torch.zeros_like(seen.counts))
    return CrossPairs(tokens, lengths, seen, types)


@torch.no_grad()
@pytest.mark.parametrize(
    ("mask", "tags", "regions"), [("CL", False, True), ("CR", True, False), ("LR", True, True)]
)
def test_oscars_other_masks_are_the_same_model_with_something_left_out(
    mask: str, tags: bool, regions: bool
) -> None:
    """Each splits a sequence in two that do not see each other; [CLS] stands in one of them."""
    model = load_original(golden("oscar", "weights_retrieval_ln1.safetensors"), "oscar", attention_heads=4)
    wanted = arrays("oscar", f"forward_{mask}_ln1.npz")
    batch = arrays("oscar", "forward_CLR_ln1.npz", "batch.")  # the same pairs, and the usual mask
    pairs = without(oscar_pairs(batch, features=58)[0], tags=tags, regions=regions)
    out = model.body(pairs)
    close(out.pooled, wanted["pooled"])
    close(model.heads["match"](out.pooled), wanted["logits"])


@torch.no_grad()
def test_text_alone_and_photo_alone_are_uniters() -> None:
    model = load_original(golden("uniter", "weights_retrieval.safetensors"), "uniter", attention_heads=4)
    batch, wanted = (
        arrays("uniter", "forward_retrieval.npz", "batch."),
        arrays("uniter", "forward_retrieval.npz"),
    )
    pairs, words, kept = uniter_pairs(batch)
    nothing = torch.zeros_like(pairs.lengths)
    none = pairs.regions.take_regions(torch.empty(0, dtype=torch.int64), nothing)
    close(model.body(CrossPairs(pairs.tokens, pairs.lengths, none)).words, wanted["text_only"][words])
    empty = CrossPairs(pairs.tokens[:0], nothing, pairs.regions)
    close(model.body(empty).regions, wanted["image_only"][kept])


def test_boxes_are_the_originals_numbers() -> None:
    corpus = arrays("uniter", "corpus.npz")
    photos = sorted(name.removesuffix(".boxes") for name in corpus if name.endswith(".boxes"))
    assert len(photos) == 12
    for photo in photos:
        wide, high = corpus[f"{photo}.wh"].long().tolist()
        corners, wanted = corpus[f"{photo}.boxes"], corpus[f"{photo}.norm_bb"]
        got = box_shares(pixels(corners, wide, high))
        close(got[:, :6], wanted, 1e-6)
        close(got[:, 6], wanted[:, 4] * wanted[:, 5], 1e-6)
    rows = torch.cat(list(arrays("oscar", "corpus.npz").values()))
    for left, top, right, bottom, wide, high in rows.tolist():
        got = box_shares(pixels(torch.tensor([[left, top, right, bottom]]), int(wide), int(high)))
        sides = [left / wide, top / high, right / wide, bottom / high]
        wanted = torch.tensor([[*sides, (right - left) / wide, (bottom - top) / high]])
        close(got[:, :6], wanted, 1e-6)


def pixels(corners: Tensor, wide: int, high: int) -> Regions:
    count = len(corners)
    sizes = torch.tensor([[high, wide]]).expand(count, 2)
    return Regions(
        torch.zeros(count, 1), torch.tensor([count]), boxes=corners[:, [1, 0, 3, 2]], photo_sizes=sizes
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "weights", "forward", "names"),
    [
        ("uniter", "weights_retrieval.safetensors", "forward_retrieval.npz", "layer.{}"),
        ("oscar", "weights_retrieval_ln1.safetensors", "forward_CLR_ln1.npz", "hidden.{}"),
    ],
)
def test_a_visual_bert_of_transformers_takes_the_encoder_by_name(
    kind: Kind, weights: str, forward: str, names: str
) -> None:
    transformers = pytest.importorskip("transformers")
    model = load_original(golden(kind, weights), kind, attention_heads=4)
    body, size = model.body, model.body.size
    config = transformers.VisualBertConfig(
        vocab_size=body.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.inner,
        max_position_embeddings=body.longest,
        visual_embedding_dim=model.feature_size,
        layer_norm_eps=1e-12,
    )
    theirs = transformers.VisualBertModel(config).eval()
    named = {
        name: tensor for name, tensor in body.state_dict().items() if name.startswith(("encoder.", "pooler."))
    }
    assert not theirs.load_state_dict(named, strict=False).unexpected_keys
    batch = arrays(kind, forward, "batch.")
    pairs = uniter_pairs(batch)[0] if kind == "uniter" else oscar_pairs(batch, features=58)[0]
    rows, kept = padded_slots(model, pairs)
    mask = torch.where(kept, 0.0, torch.finfo(torch.float32).min)[:, None, None, :]
    for layer in theirs.encoder.layer:
        found = layer(rows, mask)
        rows = found[0] if isinstance(found, tuple) else found
    close(theirs.pooler(rows), body.pooled(pairs))
    out = body(pairs)
    lengths, counts = pairs.lengths.tolist(), pairs.regions.counts.tolist()
    ours = zip(torch.split(out.words, lengths), torch.split(out.regions, counts), strict=True)
    close(torch.cat([part for pair in ours for part in pair]), rows[kept])


def padded_slots(model: CrossModel, pairs: CrossPairs) -> tuple[Tensor, Tensor]:
    """What enters the encoder as rows of equal length, and which places are taken."""
    words = torch.split(model.body.embed_words(pairs), pairs.lengths.tolist())
    regions = torch.split(model.body.embed_regions(pairs), pairs.regions.counts.tolist())
    rows = [torch.cat(pair) for pair in zip(words, regions, strict=True)]
    taken = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, batch_first=True), pad(taken, batch_first=True)


def some_model(kind: Kind) -> CrossModel:
    """A model far from its initial weights, where errors would be small."""
    torch.manual_seed(3)
    model = CrossModel(
        kind,
        SIZE,
        feature_size=FEATURES,
        vocabulary=VOCABULARY,
        longest=24,
        heads=KINDS[kind],
        classes=6,
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def some_pairs(lengths: list[int], counts: list[int], *, tags: bool, seed: int = 0) -> CrossPairs:
    generator = torch.Generator().manual_seed(seed)
    tokens, count = sum(lengths), sum(counts)
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values * 90
    regions = Regions(
        torch.randn(count, FEATURES, generator=generator),
        torch.tensor(counts),
        boxes=corners.flatten(1),
        photo_sizes=torch.full((count, 2), 100),
    )
    types = torch.cat([(torch.arange(length) > length // 2).long() for length in lengths]) if tags else None
    return CrossPairs(
        torch.randint(1, VOCABULARY, (tokens,), generator=generator), torch.tensor(lengths), regions, types
    )


def padded_output(model: CrossModel, pairs: CrossPairs) -> tuple[Tensor, Tensor]:
    """Every slot's vector, pair by pair, and the pooled ones, by a padded encoder with a mask, written as formulas."""
    hidden, kept = padded_slots(model, pairs)
    layers: Any = model.body.encoder.layer
    for layer in layers:
        own = layer.attention.self
        q, k, v = (
            part(hidden).unflatten(2, (own.heads, -1)).transpose(1, 2)
            for part in (own.query, own.key, own.value)
        )
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).masked_fill(~kept[:, None, None, :], -torch.inf)
        mixed = (weights.softmax(3) @ v).transpose(1, 2).reshape(-1, hidden.shape[2])
        attended = layer.attention.output(mixed, hidden.flatten(0, 1))
        hidden = layer.output(layer.intermediate(attended), attended).view_as(hidden)
    return hidden[kept], model.body.pooler(hidden[:, 0])


@pytest.mark.parametrize("kind", ["uniter", "oscar"])
@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8)), min_size=1, max_size=9),
    seed=st.integers(0, 1000),
)
def test_packed_is_padded(kind: Kind, sizes: list[tuple[int, int]], seed: int) -> None:
    model = some_model(kind).double()
    pairs = some_pairs([m for m, _ in sizes], [n for _, n in sizes], tags=kind == "oscar", seed=seed)
    out = model.body(pairs)
    every, pooled = padded_output(model, pairs)
    lengths, counts = pairs.lengths.tolist(), pairs.regions.counts.tolist()
    ours = zip(torch.split(out.words, lengths), torch.split(out.regions, counts), strict=True)
    close(torch.cat([part for pair in ours for part in pair]), every, 1e-9)
    close(out.pooled, pooled, 1e-9)
    close(model.body.pooled(pairs), pooled, 1e-9)


def test_packed_is_padded_in_float32() -> None:
    torch.manual_seed(0)
    model = CrossModel("uniter", SIZE, feature_size=FEATURES, vocabulary=VOCABULARY, heads=("rank",)).eval()
    pairs = some_pairs([3, 7, 2, 7, 5], [4, 1, 9, 4, 2], tags=False)
    close(model.body.pooled(pairs), padded_output(model, pairs)[1], 1e-6)


@pytest.mark.parametrize("kind", ["uniter", "oscar"])
def test_company_and_order_do_not_change_a_score(kind: Kind) -> None:
    model = some_model(kind)
    pairs = some_pairs([3, 7, 2, 5], [4, 1, 9, 2], tags=kind == "oscar")
    together = model.score(pairs)
    order = torch.tensor([2, 0, 3, 1])
    close(model.score(pairs.take(order)), together[order])
    for place in range(4):
        close(model.score(pairs.take(torch.tensor([place])))[0], together[place])


def test_a_hidden_region_says_where_it_lies_and_not_how_it_looks() -> None:
    model = some_model("uniter")
    pairs = some_pairs([3, 4], [2, 3], tags=False)
    hidden = torch.tensor([False, True, False, False, False])
    looked = CrossPairs(pairs.tokens, pairs.lengths, pairs.regions, masked=hidden)
    before = model.body(looked).regions
    changed = pairs.regions.features.clone()
    changed[1] = 7.0
    other = CrossPairs(pairs.tokens, pairs.lengths, pairs.regions.with_features(changed), masked=hidden)
    assert torch.equal(model.body(other).regions, before)
    assert pairs.regions.boxes is not None
    pairs.regions.boxes[1] += 5
    assert (model.body(looked).regions[:2] - before[:2]).abs().max() > 1e-4


def test_regions_without_boxes_and_hidden_regions_of_oscar_are_refused() -> None:
    pairs = some_pairs([3], [2], tags=False)
    bare = Regions(pairs.regions.features, pairs.regions.counts)
    with pytest.raises(ValueError, match="takes regions with their boxes"):
        some_model("uniter").score(CrossPairs(pairs.tokens, pairs.lengths, bare))
    masked = CrossPairs(pairs.tokens, pairs.lengths, pairs.regions, masked=torch.tensor([True, False]))
    with pytest.raises(ValueError, match="need UNITER"):
        some_model("oscar").score(masked)
    with pytest.raises(ValueError, match="oscar has no head rank"):
        CrossModel("oscar", SIZE, feature_size=4, vocabulary=9, heads=("rank",))
