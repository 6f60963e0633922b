"""Cross-encoders learn, resume to the same weights, re-rank, and open again from disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.cross_bundle import MARKER, CrossBundle
from shopwindow.model.cross_heads import KINDS
from shopwindow.model.cross_inputs import TagTable, join_pairs, pack_regions, unpack_regions
from shopwindow.model.cross_negatives import NONE, Negatives, draw
from shopwindow.model.cross_rank import rerank, unranked
from shopwindow.model.cross_recipe import CROSS_RECIPES, CrossRecipe, load_cross_recipe, names_cross_recipe
from shopwindow.model.cross_reranker import AT_A_TIME, CrossReranker
from shopwindow.model.cross_tasks import Spelling, hide, hide_words, ranking_loss
from shopwindow.model.cross_training import others_of, train_cross
from shopwindow.model.encoder import Part, PartsEncoder, Side
from shopwindow.model.negatives import KnownPairs
from shopwindow.model.rerankers import Pool, Query, Reranker
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import Run
from tests.model.conftest import TinyShop
from tests.model.test_cross import some_pairs

TINY = {
    "model.width": 32,
    "model.layers": 2,
    "model.heads": 4,
    "model.inner": 48,
    "batches.size": 32,
    "pretrain.epochs": 2,
    "rank.epochs": 3,
    "rank.negatives": 3,
    "rank.drawn": 5,
    "rank.depth": 20,
    "model.dropout": 0.0,
}

SMALL = EncoderSize(hidden=8, layers=1, heads=2, inner=8, dropout=0.0)
LEARNS = {
    "model.width": 64,
    "pretrain.epochs": 1,
    "rank.epochs": 16,
    "rank.drawn": 3,
    "optimiser.learning_rate": 2e-3,
}
"""Enough to learn the tiny shop."""


def tiny(kind: str, **changes: object) -> CrossRecipe:
    return load_cross_recipe(f"{kind}-small", TINY | changes)


def validation(shop: TinyShop) -> Validation:
    return Validation(shop.valid, read_answers(shop.answers))


@pytest.fixture(scope="module", params=sorted(KINDS))
def trained(
    request: pytest.FixtureRequest, tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A cross-encoder of each kind, trained on the tiny shop."""
    out: Path = tmp_path_factory.mktemp("cross") / request.param
    recipe = tiny(request.param, **LEARNS)
    train_cross(tiny_shop.train, recipe, out, validation=validation(tiny_shop), device="cpu")
    return out


def test_a_trained_one_ranks_and_opens_as_it_was(trained: Path, tiny_shop: TinyShop) -> None:
    bundle = CrossBundle.load(trained)
    run = rerank(bundle, tiny_shop.valid, unranked(tiny_shop.valid))
    score = evaluate(run, read_answers(tiny_shop.answers)).mean(Measure("nDCG", 5))
    assert score == pytest.approx(bundle.scores["nDCG@5"], abs=1e-6)
    chance = evaluate(unranked(tiny_shop.valid), read_answers(tiny_shop.answers)).mean(Measure("nDCG", 5))
    assert score > chance + 0.4
    assert bundle.provenance["steps"] == 17 * (len(tiny_shop.train.pair_queries) // 32)
    assert not trained.with_name(trained.name + ".training").exists()
    with pytest.raises(DataError, match="no bundle"):
        Bundle.load(trained)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_killed_training_ends_with_the_same_weights(kind: str, tiny_shop: TinyShop, tmp_path: Path) -> None:
    recipe = tiny(kind, **{"rank.epochs": 1, "pretrain.epochs": 1, "model.dropout": 0.2})
    steps = 2 * (len(tiny_shop.train.pair_queries) // 32)
    whole = train_cross(
        tiny_shop.train, recipe, tmp_path / "whole", validation=validation(tiny_shop), device="cpu"
    )
    killed_at = []
    for kill in (2, steps // 2, steps - 1):

        def stop(moment: Moment, kill: int = kill) -> None:
            if moment.step == kill:
                killed_at.append(kill)
                raise KilledError

        with pytest.raises(KilledError):
            train_cross(
                tiny_shop.train,
                recipe,
                tmp_path / "killed",
                validation=validation(tiny_shop),
                device="cpu",
                seconds_between_saves=0.0,
                seconds_between_tells=0.0,
                progress=stop,
            )
    resumed = train_cross(
        tiny_shop.train,
        recipe,
        tmp_path / "killed",
        validation=validation(tiny_shop),
        device="cpu",
        resume=True,
    )
    assert killed_at == [2, steps // 2, steps - 1]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_another_recipe_is_refused_with_resume(tiny_shop: TinyShop, tmp_path: Path) -> None:
    def stop(moment: Moment) -> None:
        raise KilledError

    given = {"validation": validation(tiny_shop), "device": "cpu"}
    with pytest.raises(KilledError):
        train_cross(
            tiny_shop.train,
            tiny("uniter"),
            tmp_path / "out",
            seconds_between_saves=0.0,
            seconds_between_tells=0.0,
            progress=stop,
            **given,  # type: ignore[arg-type] # a dictionary of several types
        )
    with pytest.raises(DataError, match="another recipe"):
        train_cross(tiny_shop.train, tiny("oscar"), tmp_path / "out", resume=True, **given)  # type: ignore[arg-type] # the same


def test_chunks_give_the_gradients_of_the_whole(tiny_shop: TinyShop, tmp_path: Path) -> None:
    made = []
    for chunk in (64, 5):
        changes = {"batches.chunk": chunk, "rank.epochs": 1, "pretrain.epochs": 0}
        recipe = tiny("uniter", **changes)
        bundle = train_cross(
            tiny_shop.train, recipe, tmp_path / str(chunk), validation=validation(tiny_shop), device="cpu"
        )
        made.append(bundle.model.state_dict())
    for name, tensor in made[0].items():
        if ".key.bias" not in name:  # no gradient but rounding
            torch.testing.assert_close(made[1][name], tensor, atol=2e-4, rtol=0)


def test_easy_epochs_leave_the_first_stage_unasked(tiny_shop: TinyShop, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(tiny_shop.train.query_texts, vocabulary=60)
    part = Part(
        8, Side(TextTower(SMALL, vocabulary=60, longest=16)), Side(PhotoTower(SMALL, feature_size=16))
    )
    first = Bundle(PartsEncoder([part], feature_size=16, vocabulary=60, longest=16).eval(), tokenizer)
    made = {}
    for name, asked, easy in (("none", None, 0), ("easy", first, 1), ("hard", first, 0)):
        recipe = tiny("uniter", **{"pretrain.epochs": 0, "rank.epochs": 1, "rank.easy_epochs": easy})
        given = {"validation": validation(tiny_shop), "first_stage": asked, "device": "cpu"}
        made[name] = train_cross(tiny_shop.train, recipe, tmp_path / name, **given).model.state_dict()  # type: ignore[arg-type] # a dictionary of several types
    weights = "body.embeddings.word_embeddings.weight"
    assert torch.equal(made["easy"][weights], made["none"][weights])
    assert not torch.equal(made["hard"][weights], made["none"][weights])


def query(text: str) -> Query:
    return Query(text, np.zeros(2, np.int64), np.zeros(4, np.float32))


def pool(reranker: CrossReranker, shop: TinyShop, products: int) -> Pool:
    kept = reranker.keep(shop.valid.regions(np.arange(products), boxes=True))
    return Pool(shop.valid.product_ids[:products], np.zeros((products, 4), np.float32), kept)


def test_a_reranker_scores_what_it_kept(trained: Path, tiny_shop: TinyShop) -> None:
    bundle = CrossBundle.load(trained)
    reranker = CrossReranker(bundle)
    assert isinstance(reranker, Reranker)
    candidates = pool(reranker, tiny_shop, 12)
    assert candidates.kept is not None
    assert candidates.kept.features.dtype == torch.float16
    assert candidates.kept.features.shape[1] == reranker.kept_values
    scores = reranker.score(query("red shoe"), candidates)
    tokens, lengths = bundle.tokenise(["red shoe"] * 12)
    whole = bundle.score(tokens, lengths, tiny_shop.valid.regions(np.arange(12), boxes=True))
    np.testing.assert_allclose(scores, whole, atol=0.02)  # boxes in float16
    order = np.array([5, 2, 9])
    np.testing.assert_allclose(
        reranker.score(query("red shoe"), candidates.take(order)), scores[order], atol=1e-5
    )
    with pytest.raises(ValueError, match="needs what `keep` made"):
        reranker.score(query("red shoe"), Pool(candidates.ids, candidates.vectors))


def test_a_budget_scores_the_first_and_leaves_the_others_in_order(trained: Path, tiny_shop: TinyShop) -> None:
    bundle = CrossBundle.load(trained)
    whole = CrossReranker(bundle)
    count = 3 * AT_A_TIME
    candidates = pool(whole, tiny_shop, count)
    ticks = iter([0.0, 0.01, 1.0])
    scores = CrossReranker(bundle, 0.05, lambda: next(ticks)).score(query("blue bag"), candidates)
    done = 2 * AT_A_TIME
    np.testing.assert_allclose(scores[:done], whole.score(query("blue bag"), candidates)[:done], atol=1e-5)
    assert (np.diff(scores[done:]) < 0).all()
    assert scores[done:].max() < scores[:done].min()


def test_the_first_of_a_run_are_ordered_anew_and_the_others_follow(
    trained: Path, tiny_shop: TinyShop
) -> None:
    bundle, valid = CrossBundle.load(trained), tiny_shop.valid
    every = rerank(bundle, valid, unranked(valid))
    run = Run.from_arrays(every.query_ids, every.product_ids, -every.scores)  # the worst first
    again = rerank(bundle, valid, run, first=4)
    score_of = dict(zip(zip(every.query_ids, every.product_ids, strict=True), every.scores, strict=True))
    for index, number in enumerate(again.queries.tolist()):
        ours, theirs = again.products_of(index).tolist(), run.products_of(index).tolist()
        assert set(ours[:4]) == set(theirs[:4])
        assert ours[:4] == sorted(ours[:4], key=lambda own: -score_of[number, own])
        assert ours[4:] == theirs[4:]
    stranger = Run.from_arrays(every.query_ids[:1], np.array([1]), np.zeros(1))
    with pytest.raises(DataError, match="has no product 1"):
        rerank(bundle, valid, stranger)


def test_a_broken_one_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cross-encoder"):
        CrossBundle.load(tmp_path)
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in trained.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    card = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(card | {"format": "other"}))
    with pytest.raises(DataError, match="but 'other'"):
        CrossBundle.load(folder)
    (folder / MARKER).write_text(json.dumps(card | {"model": {"kind": "lxmert"}}))
    with pytest.raises(DataError, match="lxmert"):
        CrossBundle.load(folder)
    card = json.loads((trained / MARKER).read_text())
    card["model"]["size"]["inner"] = 10**12
    (folder / MARKER).write_text(json.dumps(card))
    with pytest.raises(DataError, match=r"wrong sizes: .* values, model\.safetensors has"):
        CrossBundle.load(folder)


def test_tags_follow_the_words_and_end_where_there_is_no_room() -> None:
    tokenizer = train_tokenizer(["red shoe", "hat", "long coat"], vocabulary=80)
    names = {0: "hat", 2: "long coat"}
    table = TagTable.of(tokenizer, names)
    pairs = some_pairs([3, 4], [3, 1], tags=False)
    assert pairs.regions.boxes is not None
    labels = torch.tensor([2, 0, 1, 5])  # 1 has no name, 5 is beyond the table
    regions = type(pairs.regions)(
        pairs.regions.features, pairs.regions.counts, pairs.regions.boxes, pairs.regions.photo_sizes, labels
    )
    joined = join_pairs(pairs.tokens, pairs.lengths, regions, tags=table)
    spelled = [tokenizer.encode(name, add_special_tokens=False).ids for name in ("long coat", "hat")]
    end = tokenizer.token_to_id("[SEP]")
    wanted = [*pairs.tokens[:3].tolist(), *spelled[0], *spelled[1], end, *pairs.tokens[3:].tolist(), end]
    assert joined.tokens.tolist() == wanted
    tags = len(spelled[0]) + len(spelled[1]) + 1
    assert joined.lengths.tolist() == [3 + tags, 4 + 1]
    assert joined.types is not None
    assert joined.types.tolist() == [0] * 3 + [1] * tags + [0] * 4 + [1]
    short = join_pairs(pairs.tokens, pairs.lengths, regions, tags=table, longest=5)
    assert short.lengths.tolist() == [5, 5]
    assert short.tokens[:5].tolist() == [*pairs.tokens[:3].tolist(), spelled[0][0], end]


def test_kept_regions_are_the_regions_within_float16() -> None:
    regions = some_pairs([2], [4], tags=False).regions
    labels = torch.tensor([0, 65535, 2049, 300])
    whole = type(regions)(regions.features, regions.counts, regions.boxes, regions.photo_sizes, labels)
    back = unpack_regions(pack_regions(whole, labels=True), 10, labels=True)
    torch.testing.assert_close(back.features, regions.features, atol=2e-3, rtol=1e-3)
    assert back.labels is not None
    assert back.labels.tolist() == labels.tolist()
    assert back.boxes is not None
    assert regions.boxes is not None
    torch.testing.assert_close(back.boxes, regions.boxes / 100, atol=5e-4, rtol=0)


def test_hidden_words_are_words_and_every_text_hides_one() -> None:
    spelling = Spelling(mask=4, special=(0, 1, 2, 3, 4), vocabulary=40)
    lengths = torch.tensor([3, 6, 30, 2])
    tokens = torch.cat(
        [torch.cat([torch.tensor([2]), torch.arange(5, 5 + n - 2), torch.tensor([3])]) for n in lengths]
    )
    pairs = some_pairs(lengths.tolist(), [1, 1, 1, 1], tags=False)
    pairs = type(pairs)(tokens, lengths, pairs.regions)
    counts, as_mask, kept, times = torch.zeros(4), 0, 0, 400
    for seed in range(times):
        changed, targets = hide_words(pairs, np.random.default_rng(seed), share=0.15, spelling=spelling)
        hidden = targets >= 0
        assert torch.equal(targets[hidden], tokens[hidden])
        assert torch.equal(changed.tokens[~hidden], tokens[~hidden])
        assert not torch.isin(tokens[hidden], torch.tensor(spelling.special)).any()
        owners = torch.arange(4).repeat_interleave(lengths)
        counts += torch.bincount(owners[hidden], minlength=4)
        as_mask += int((changed.tokens[hidden] == 4).sum())
        kept += int((changed.tokens[hidden] == tokens[hidden]).sum())
    total = float(counts.sum())
    assert counts[0] == times  # one word: always hidden
    assert counts[3] == 0  # no word
    assert counts[2] / times == pytest.approx(0.15 * 28, rel=0.05)
    assert as_mask / total == pytest.approx(0.8, abs=0.03)
    assert kept / total == pytest.approx(0.1, abs=0.03)


def test_hidden_regions_are_a_share_and_one_at_least() -> None:
    counts = torch.tensor([1, 40])
    hidden = torch.stack([hide(counts, np.random.default_rng(seed), share=0.2) for seed in range(300)])
    assert hidden[:, 0].all()
    assert float(hidden[:, 1:].float().mean()) == pytest.approx(0.2, abs=0.02)
    assert hidden[:, 1:].any(dim=1).all()


def test_negatives_are_the_nearest_that_no_pair_knows() -> None:
    words = np.array([[1.0, 0], [0, 1]], np.float32)
    photos = np.array([[0.9, 0.1], [0.8, 0.5], [0.1, 0.9], [0.5, 0.2]], np.float32)
    known = KnownPairs(np.array([0, 1, 1]), np.array([0, 2, 1]))
    made = Negatives.of(words, photos, known, (2, 4), depth=3, seed=0)
    assert made.products.tolist() == [[1, 3, 2], [3, 0, NONE]]
    assert made.texts.tolist() == [[1, NONE], [0, NONE], [0, NONE], [0, 1]]
    random = Negatives.of(None, None, known, (2, 4), depth=3, seed=0)
    assert set(random.products[1].tolist()) == {0, 3, NONE}
    drawn = draw(made.products, np.array([1, 0, 1]), 3, np.random.default_rng(0))
    assert sorted(set(drawn[0].tolist())) == [0, 3]  # two there are: one comes twice
    assert sorted(drawn[1].tolist()) == [1, 2, 3]
    everything = KnownPairs(np.zeros(4, np.int64), np.arange(4))
    table = Negatives.of(None, None, everything, (1, 4), depth=3, seed=0).products
    with pytest.raises(ValueError, match="no negative"):
        draw(table, np.array([0]), 1, np.random.default_rng(0))


def test_others_of_a_batch_are_not_known_to_fit() -> None:
    known = KnownPairs(np.array([0, 1, 2, 0]), np.array([5, 6, 7, 6]))  # text 0 fits the second product too
    texts, products = np.array([0, 1, 2]), np.array([5, 6, 7])
    for seed in range(20):
        others = others_of(known, texts, products, np.random.default_rng(seed))
        assert others[:2].tolist() == [2, 2]
        assert others[2] in (0, 1)
    alone = others_of(known, np.array([0, 0]), np.array([5, 6]), np.random.default_rng(0))
    assert alone.tolist() == [0, 1]


def test_losses_of_groups_counted_by_hand() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0]])
    softmax = -np.log(np.exp(1) / (np.exp(1) + 1 + np.exp(-1)))
    assert float(ranking_loss(scores, name="softmax", margin=0.2)) == pytest.approx(softmax, abs=1e-6)
    match = np.mean([np.log1p(np.exp(-1)), np.log(2), np.log1p(np.exp(-1))])
    assert float(ranking_loss(scores, name="match", margin=0.2)) == pytest.approx(match, abs=1e-6)
    assert float(ranking_loss(scores, name="margin", margin=0.3)) == pytest.approx(
        (0.3 + 0.5 - 1 / (1 + np.exp(-1))) / 2, abs=1e-6
    )


def test_every_recipe_of_a_cross_encoder_is_read(tmp_path: Path) -> None:
    names = sorted(file.stem for file in CROSS_RECIPES.glob("*.yaml"))
    assert names == ["oscar", "oscar-small", "uniter", "uniter-small"]
    for name in names:
        assert names_cross_recipe(name)
        text = (CROSS_RECIPES / f"{name}.yaml").read_text()
        assert f"--recipe {name}" in text
        assert all(f"# {what}:" in text for what in ("command", "hardware", "score"))
        recipe = load_cross_recipe(name)
        assert recipe.model.kind == name.split("-")[0]
        (tmp_path / f"{name}.yaml").write_text(recipe.to_yaml())
        assert names_cross_recipe(str(tmp_path / f"{name}.yaml"))
        assert load_cross_recipe(str(tmp_path / f"{name}.yaml")) == recipe
    assert not names_cross_recipe("small")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rank.drawn": 3}, "rank.drawn: 3, from 7"),
        ({"model.heads": 3}, "model.heads: 3, must divide"),
        ({"model.nothing": 3}, "model.nothing: no such field"),
        ({"rank.loss": "other"}, "rank.loss: 'other'"),
        ({"pretrain.hidden_words": "2"}, "pretrain.hidden_words: 2.0, from 0 to below 1"),
    ],
)
def test_a_wrong_choice_is_refused_by_its_name(changes: dict[str, object], says: str) -> None:
    with pytest.raises(DataError) as refused:
        load_cross_recipe("uniter-small", changes)
    assert says in str(refused.value)
