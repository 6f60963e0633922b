"""Late interaction is the sum it says it is, in training and in ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import shopwindow.model.encoder as encoder
import shopwindow.model.rank as rank
from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.late import LateInteraction
from shopwindow.model.recipe import load_recipe
from shopwindow.model.rerankers import LateReranker, Pool, find, own_reranker, read_queries
from shopwindow.model.smoothing import smooth_regions
from shopwindow.model.tokens import tokenize
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import evaluate
from shopwindow.ranking.runs import Run
from tests.model.conftest import TinyShop
from tests.model.parts import LATE_PARTS

TINY: dict[str, Any] = {
    "parts": LATE_PARTS,
    "batches.size": 30,
    "optimiser.epochs": 6,
    "text.vocabulary": 200,
    "late.width": 16,
}
VOCABULARY, FEATURES, IGNORED = 12, 5, 2  # tokens 0 and 1 do not count


@pytest.fixture
def late() -> LateInteraction:
    torch.manual_seed(3)
    late = LateInteraction(VOCABULARY, FEATURES, width=4)
    late.words[:IGNORED] = False
    torch.nn.init.normal_(late.importance.weight)
    torch.nn.init.normal_(late.centre, std=0.1)
    return late


def some_photos(*lengths: int, seed: int = 0) -> Regions:
    torch.manual_seed(seed)
    return Regions(torch.randn(sum(lengths), FEATURES), torch.tensor(lengths))


def packed(*queries: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.tensor([token for query in queries for token in query], dtype=torch.int64),
        torch.tensor([len(query) for query in queries]),
    )


def plain_loop(late: LateInteraction, queries: list[list[int]], photos: Regions) -> np.ndarray:
    """The docstring's formula, one number after another, in float64."""

    def unit(vector: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = vector / np.linalg.norm(vector)
        return scaled

    table, matrix, centre, importance = (
        tensor.detach().double().numpy()
        for tensor in (late.word.weight, late.region.weight, late.centre, late.importance.weight)
    )
    scores = np.zeros((len(queries), len(photos.counts)))
    values = photos.features.double()
    regions = torch.split(values.sign() * values.abs().sqrt(), photos.counts.tolist())
    for q, query in enumerate(queries):
        words = [token for token in query if token >= IGNORED]
        total = sum(np.exp(importance[word, 0]) for word in words)
        for p, of_photo in enumerate(regions):
            for word in words:
                cosines = [
                    unit(table[word]) @ unit(matrix @ (unit(region) - centre)) for region in of_photo.numpy()
                ]
                scores[q, p] += np.exp(importance[word, 0]) / total * max(cosines)
    return scores


def test_scores_equal_the_formula_in_a_loop(late: LateInteraction) -> None:
    queries = [[0, 3, 4, 1], [0, 5, 1], [0, 1], [0, 6, 6, 7, 8, 1]]
    photos = some_photos(1, 4, 2)
    found = late(*packed(*queries), photos).detach().numpy()
    np.testing.assert_allclose(found, plain_loop(late, queries, photos), atol=1e-6)  # float32
    assert (found <= 1).all()


def ids_of(dataset: Dataset) -> list[tuple[int, int]]:
    """The query and the product of every candidate, as `rank.candidate_pairs` has them."""
    queries, products = rank.candidate_pairs(dataset)
    ids = dataset.query_ids[queries].tolist(), dataset.product_ids[products].tolist()
    return list(zip(*ids, strict=True))


def by_pair(run: Run) -> dict[tuple[int, int], float]:
    pairs = zip(run.query_ids.tolist(), run.product_ids.tolist(), strict=True)
    return dict(zip(pairs, run.scores.tolist(), strict=True))


def reranked_only(
    bundle: Bundle, dataset: Dataset, smooth: tuple[float, ...] | None = None
) -> dict[tuple[int, int], float]:
    """What the bundle's own reranker adds to the vectors' scores."""
    both = by_pair(bundle.rank(dataset, smooth=smooth))
    plain = by_pair(rank.rank_pools(bundle, dataset, smooth=smooth))
    return {pair: score - plain[pair] for pair, score in both.items()}


@torch.inference_mode()
def second_scores(bundle: Bundle, text: str, photos: Regions) -> np.ndarray:
    """The second score of one query with each photo, from the photos as they are."""
    tokens, lengths = tokenize(bundle.tokenizer, [text], longest=bundle.model.longest)
    scores: np.ndarray = bundle.model.eval().late_scores(tokens, lengths, photos)[0].numpy()
    return scores


@pytest.mark.parametrize("largest", [None, 2])
def test_regions_projected_once_score_as_those_of_each_pool(
    tiny_shop: TinyShop, monkeypatch: pytest.MonkeyPatch, largest: int | None
) -> None:
    """Products of several pools, read in pieces of few regions, against every pool on its own."""
    recipe = load_recipe("late", {**TINY, "regions.largest": largest})
    tokenizer, model = initial_model(tiny_shop.valid, recipe)
    bundle = Bundle(model, tokenizer)
    queries, products = rank.candidate_pairs(tiny_shop.valid)
    assert len(np.unique(products)) < len(products)
    monkeypatch.setattr(encoder, "TOKENS_AT_ONCE", 7)
    made = reranked_only(bundle, tiny_shop.valid)
    found = np.array([made[pair] for pair in ids_of(tiny_shop.valid)])
    wanted = np.zeros(len(queries))
    for query in np.unique(queries).tolist():
        mine = queries == query
        photos = tiny_shop.valid.regions(products[mine], boxes=True)
        wanted[mine] = second_scores(bundle, tiny_shop.valid.query_texts[query], photos)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert len(set(found.tolist())) > 10


def test_photos_can_be_named_in_any_order_and_more_than_once() -> None:
    photos, order = some_photos(1, 4, 2), [2, 0, 2, 1]
    wanted = [torch.split(photos.features, photos.counts.tolist())[row] for row in order]
    found = photos.take(torch.tensor(order))
    assert torch.equal(found.features, torch.cat(wanted))
    assert found.counts.tolist() == [2, 1, 2, 4]
    assert len(photos.take(torch.tensor([], dtype=torch.int64)).features) == 0


def test_query_of_ignored_tokens_scores_0_with_every_photo(late: LateInteraction) -> None:
    assert late(*packed([0, 1]), some_photos(1, 3)).tolist() == [[0.0, 0.0]]
    assert late(*packed([0, 1], [0, 1, 1]), some_photos(2)).tolist() == [[0.0], [0.0]]


def test_ignored_tokens_change_nothing(late: LateInteraction) -> None:
    photos = some_photos(2, 3)
    assert torch.equal(late(*packed([3, 4]), photos), late(*packed([0, 3, 0, 4, 1]), photos))


def test_a_photo_that_fits_nothing_keeps_its_negative_score(late: LateInteraction) -> None:
    region = -torch.linalg.pinv(late.region.weight) @ late.word.weight[5]
    region = region.sign() * region.square()  # enters as its signed root
    late.centre.zero_()
    photos = Regions(region[None].detach(), torch.tensor([1]))
    assert late(*packed([5]), photos).item() == pytest.approx(-1.0, abs=1e-5)


def test_weights_of_a_query_add_up_to_1(late: LateInteraction) -> None:
    weights = late.weights(torch.tensor([3, 4, 5, 6]), torch.tensor([0, 0, 0, 1]), 2).tolist()
    assert sum(weights[:3]) == pytest.approx(1)
    assert weights[3] == 1
    assert len(set(weights)) == 4


def test_order_in_the_batch_does_not_matter(late: LateInteraction) -> None:
    queries, order = [[0, 3, 4, 1], [5], [0, 6, 6, 7, 8, 1]], [2, 0, 1]
    photos = some_photos(1, 4, 2)
    together = late(*packed(*queries), photos)
    moved = Regions.take_regions(photos, torch.tensor([5, 6, 0, 1, 2, 3, 4]), torch.tensor([2, 1, 4]))
    other = late(*packed(*(queries[row] for row in order)), moved)
    torch.testing.assert_close(other, together[order][:, order], atol=1e-6, rtol=0)
    alone = [late(*packed(query), photos.part(p, p + 1)).item() for query in queries for p in range(3)]
    np.testing.assert_allclose(alone, together.flatten().tolist(), atol=1e-6)


def test_gradients_are_finite_also_of_words_and_regions_of_zeros(late: LateInteraction) -> None:
    with torch.no_grad():
        late.word.weight[3] = 0
    photos = some_photos(1, 3)
    photos = photos.with_features(photos.features.index_fill(0, torch.tensor([0, 2]), 0.0))
    late.centre.zero_()
    late(*packed([0, 3, 4, 1], [0, 1]), photos).sum().backward()
    for name, parameter in late.named_parameters():
        if name != "share":  # not of the score itself
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all()
    assert late.importance.weight.grad is not None
    assert late.importance.weight.grad[:IGNORED].abs().sum() == 0


def tiny(tiny_shop: TinyShop, out: Path, **how: object) -> Bundle:
    validation = Validation(tiny_shop.valid, read_answers(tiny_shop.answers))
    return train(tiny_shop.train, load_recipe("late", TINY), out, validation=validation, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("late") / "bundle"
    tiny(tiny_shop, out)
    return out


def test_training_learns_and_the_bundle_keeps_the_late_interaction(trained: Path) -> None:
    bundle = Bundle.load(trained)
    assert bundle.scores["nDCG@5"] > 0.8  # random order scores about 0.25
    late = bundle.model.late
    assert late is not None
    assert late.width == 16
    assert (late.share.item(), late.importance.weight.abs().max().item()) != (0.5, 0.0)
    special = {bundle.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[UNK]")}
    assert not any(late.words[token] for token in special)
    assert late.words.any()


def test_validation_counts_the_second_score(trained: Path, tiny_shop: TinyShop) -> None:
    bundle = Bundle.load(trained)
    run, answers = bundle.rank(tiny_shop.valid), read_answers(tiny_shop.answers)
    assert bundle.scores["nDCG@5"] == pytest.approx(evaluate(run, answers).mean("nDCG@5"), abs=1e-9)
    bundle.model.late = None
    assert not np.allclose(bundle.rank(tiny_shop.valid).scores, run.scores, atol=1e-3)


class KillError(Exception):
    """Stands for a kill."""


def test_resumed_training_equals_an_undisturbed_one(
    trained: Path, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    def kill(moment: Moment) -> None:
        if moment.step == 13:
            raise KillError

    with pytest.raises(KillError):
        tiny(tiny_shop, tmp_path / "broken", seconds_between_saves=0.0, progress=kill)
    resumed = tiny(tiny_shop, tmp_path / "broken", resume=True)
    assert resumed.scores == Bundle.load(trained).scores
    weights = (tmp_path / "broken" / "model.safetensors").read_bytes()
    assert weights == (trained / "model.safetensors").read_bytes()


@pytest.mark.parametrize("smooth", [None, (0.7, 0.2, 0.1)])
def test_late_scores_of_pools_are_the_models_own(
    trained: Path, tiny_shop: TinyShop, smooth: tuple[float, ...] | None
) -> None:
    bundle, valid = Bundle.load(trained), tiny_shop.valid
    queries, products = rank.candidate_pairs(valid)
    made = reranked_only(bundle, valid, smooth)
    found = np.array([made[pair] for pair in ids_of(valid)])
    for query in np.unique(queries):
        rows = queries == query
        photos = valid.regions(products[rows], boxes=False)
        if smooth is not None:
            photos = photos.with_features(smooth_regions(photos.features, smooth))
        own = second_scores(bundle, valid.query_texts[query], photos)
        np.testing.assert_allclose(found[rows], own, atol=1e-6)
    assert np.abs(found).max() > 1e-3


def test_a_products_regions_are_kept_once_however_many_pools_it_is_in(
    trained: Path, tiny_shop: TinyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, kept = Bundle.load(trained), list[int]()
    keep = LateReranker.keep

    def counted(self: LateReranker, regions: Regions) -> Regions | None:
        kept.append(len(regions.counts))
        return keep(self, regions)

    monkeypatch.setattr(LateReranker, "keep", counted)
    bundle.rank(tiny_shop.valid)
    _, products = rank.candidate_pairs(tiny_shop.valid)
    assert sum(kept) == len(np.unique(products)) < len(products)


def test_a_model_without_late_interaction_has_no_reranker_and_refuses_late_scores(trained: Path) -> None:
    bundle = Bundle.load(trained)
    assert bundle.reranker == find("late", bundle)
    bundle.model.late = None
    assert own_reranker(bundle.model) is None
    with pytest.raises(ValueError, match="no reranker of its own; the recipe late has one"):
        find("late", bundle)
    tokens, lengths = packed([3])
    with pytest.raises(ValueError, match="no late interaction"):
        bundle.model.late_scores(tokens, lengths, some_photos(1))


def test_late_scores_of_a_pool_need_what_was_kept(trained: Path, tiny_shop: TinyShop) -> None:
    bundle = Bundle.load(trained)
    (query,) = read_queries(["red shoe"], bundle)
    reranker, vectors = find("late", bundle), bundle.encode_dataset(tiny_shop.valid)
    with pytest.raises(ValueError, match="re-ranking late needs what `keep` made"):
        reranker.score(query, Pool(tiny_shop.valid.product_ids, vectors))


def test_negative_width_is_refused() -> None:
    with pytest.raises((DataError, ValueError), match="late"):
        load_recipe("late", {"late.width": "-1"})


def test_operator_beside_late_interaction_is_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"re-ranking expand:5,3: .* takes no operator, only late"):
        find("expand", Bundle.load(trained))
