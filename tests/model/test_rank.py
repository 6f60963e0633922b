"""Ranking scores every candidate once, the same in any grouping, smoothed or not."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import shopwindow.model.encoder as encoder
import shopwindow.model.rank as rank
from shopwindow.cli import main
from shopwindow.data.competition import HEADER, Row, format_photo
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.model.bundle import Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.model.rerankers import PoolReranker, find
from shopwindow.model.smoothing import smooth_regions
from shopwindow.ranking.operators import Operator
from shopwindow.ranking.runs import Run, read_run
from tests.model.conftest import FEATURES, TinyShop
from tests.model.parts import part, transformer


@pytest.fixture
def bundle(tiny_shop: TinyShop) -> Bundle:
    recipe = load_recipe("small", {"parts": [part(transformer(inner=48), transformer(inner=48))]})
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    return Bundle(model, tokenizer)


def test_scores_are_the_dot_products_of_the_vectors(bundle: Bundle, tiny_shop: TinyShop) -> None:
    run = rank.rank_pools(bundle, tiny_shop.valid)
    valid = tiny_shop.valid
    words = bundle.encode_texts(valid.query_texts)
    photos = bundle.encode_dataset(valid)
    query_rows = {query: row for row, query in enumerate(valid.query_ids.tolist())}
    product_rows = {product: row for row, product in enumerate(valid.product_ids.tolist())}
    pairs = set(zip(valid.pair_queries.tolist(), valid.pair_products.tolist(), strict=True))
    assert len(run) == len(pairs)
    for query, product, score in zip(run.query_ids, run.product_ids, run.scores, strict=True):
        pair = query_rows[query], product_rows[product]
        assert pair in pairs
        assert score == pytest.approx(float(words[pair[0]] @ photos[pair[1]]), abs=1e-5)


def test_smoothed_scores_are_those_of_smoothed_pools(bundle: Bundle, tiny_shop: TinyShop) -> None:
    valid = tiny_shop.valid
    run = rank.rank_pools(bundle, valid, smooth=(0.7, 0.2, 0.1))
    scores = dict(
        zip(
            zip(run.query_ids.tolist(), run.product_ids.tolist(), strict=True),
            run.scores.tolist(),
            strict=True,
        )
    )
    queries, products = rank.candidate_pairs(valid)
    words = bundle.encode_texts(valid.query_texts)
    for query in (0, 7):
        rows = products[queries == query]
        regions = valid.regions(rows)
        smoothed = regions.with_features(smooth_regions(regions.features))
        photos = encoder.encode_photos(bundle.model, smoothed)
        for row, photo in zip(rows, photos, strict=True):
            key = int(valid.query_ids[query]), int(valid.product_ids[row])
            assert scores[key] == pytest.approx(float(words[query] @ photo), abs=1e-5)
    plain = rank.rank_pools(bundle, valid)
    assert not np.allclose(plain.scores, run.scores)


@pytest.mark.parametrize("operator", [None, "expand"])
@pytest.mark.parametrize("smooth", [None, (0.7, 0.2, 0.1)])
def test_grouping_does_not_change_scores(
    bundle: Bundle,
    tiny_shop: TinyShop,
    smooth: tuple[float, ...] | None,
    operator: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reranker = None if operator is None else find(operator, bundle)
    together = rank.rank_pools(bundle, tiny_shop.valid, smooth=smooth, reranker=reranker)
    monkeypatch.setattr(rank, "TOKENS_AT_ONCE", 1)
    monkeypatch.setattr(encoder, "TOKENS_AT_ONCE", 1)
    alone = rank.rank_pools(bundle, tiny_shop.valid, smooth=smooth, reranker=reranker)
    key = np.lexsort((together.product_ids, together.query_ids))
    other = np.lexsort((alone.product_ids, alone.query_ids))
    assert np.array_equal(together.product_ids[key], alone.product_ids[other])
    np.testing.assert_allclose(together.scores[key], alone.scores[other], atol=1e-6)


def scores_by_pair(run: Run) -> dict[tuple[int, int], float]:
    pairs = zip(run.query_ids.tolist(), run.product_ids.tolist(), strict=True)
    return dict(zip(pairs, run.scores.tolist(), strict=True))


@pytest.mark.parametrize("written", ["smooth", "expand:3,2", "reciprocal:4,2,0.3"])
def test_an_operator_scores_every_pool_on_its_own(bundle: Bundle, tiny_shop: TinyShop, written: str) -> None:
    valid, operator = tiny_shop.valid, Operator.parse(written)
    found = scores_by_pair(rank.rank_pools(bundle, valid, reranker=find(written, bundle)))
    queries, products = rank.candidate_pairs(valid)
    words, photos = bundle.encode_texts(valid.query_texts), bundle.encode_dataset(valid)
    assert len(found) == len(queries)
    for query in range(len(valid.query_ids)):
        rows = products[queries == query]
        for row, score in zip(rows, operator(words[query], photos[rows]), strict=True):
            key = int(valid.query_ids[query]), int(valid.product_ids[row])
            assert found[key] == pytest.approx(score, abs=1e-5)


def test_an_operator_works_on_pools_whose_regions_are_smoothed(bundle: Bundle, tiny_shop: TinyShop) -> None:
    valid, smooth = tiny_shop.valid, (0.7, 0.2, 0.1)
    seen: list[np.ndarray] = []

    def plain(words: np.ndarray, photos: np.ndarray) -> np.ndarray:
        seen.append(photos)
        return np.asarray(photos @ words, np.float64)

    found = rank.rank_pools(bundle, valid, smooth=smooth, reranker=PoolReranker(plain))
    wanted = rank.rank_pools(bundle, valid, smooth=smooth)
    sizes = np.bincount(rank.candidate_pairs(valid)[0])
    assert [len(photos) for photos in seen] == sizes.tolist()
    scores = scores_by_pair(wanted)
    for pair, score in scores_by_pair(found).items():
        assert score == pytest.approx(scores[pair], abs=1e-5)
    expanded = rank.rank_pools(bundle, valid, smooth=smooth, reranker=find("expand", bundle))
    assert scores_by_pair(expanded) != scores


def test_an_operator_gets_candidates_by_rising_product_id(bundle: Bundle, tiny_shop: TinyShop) -> None:
    valid = tiny_shop.valid
    assert (np.diff(valid.product_ids) < 0).any()  # else the order of rows would do

    def place(words: np.ndarray, photos: np.ndarray) -> np.ndarray:
        return -np.arange(float(len(photos)))

    run = rank.rank_pools(bundle, valid, reranker=PoolReranker(place))
    for index in range(len(run.queries)):
        assert (np.diff(run.products_of(index)) > 0).all()


def test_the_verb_ranks_with_an_operator(bundle: Bundle, tiny_shop: TinyShop, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    bundle.save_into(tmp_path / "bundle")
    out = tmp_path / "valid.run"
    dataset = str(tiny_shop.valid.path)
    for options, smooth in (([], None), (["--smooth", "0.8,0.2"], (0.8, 0.2))):
        words = ["rank", str(tmp_path / "bundle"), dataset, "--out", str(out), "--device", "cpu"]
        main([*words, "--operator", "reciprocal:5,2,0.4", *options])
        wanted = rank.rank_pools(
            bundle,
            tiny_shop.valid,
            smooth=smooth,
            reranker=find("reciprocal:5,2,0.4", bundle),
        )
        scores = scores_by_pair(wanted)
        for pair, score in scores_by_pair(read_run(out)).items():
            assert score == pytest.approx(scores[pair], abs=1e-6)


def test_queries_of_unknown_words_are_told(
    bundle: Bundle, tiny_shop: TinyShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").mkdir()
    bundle.save_into(tmp_path / "bundle")
    rank_dataset = ["rank", str(tmp_path / "bundle"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    main([*rank_dataset, str(tiny_shop.valid.path)])
    assert capsys.readouterr().err == ""
    product = Row(
        1,
        1,
        "",
        (9, 9),
        np.zeros((1, 4), np.float32),
        np.ones((1, FEATURES), np.float32),
        np.zeros(1, np.int64),
    )
    (tmp_path / "strange.tsv").write_text("\t".join(HEADER) + f"\n{format_photo(product)}\tλέξη λέξη\t1\n")
    prepare([tmp_path / "strange.tsv"], tmp_path / "strange", feature_size=FEATURES)
    main([*rank_dataset, str(tmp_path / "strange")])
    assert capsys.readouterr().err == (
        "shopwindow: 1 query has no word that the model knows: the order of their candidates says nothing\n"
    )


def test_pools_of_one_candidate_and_of_few_regions_are_ranked(bundle: Bundle, tmp_path: Path) -> None:
    def row(product_id: int, regions: int, query_id: int) -> str:
        rng = np.random.default_rng(product_id)
        product = Row(
            product_id,
            query_id,
            "red shoe",
            (10, 10),
            np.tile(np.array([0, 0, 5, 5], np.float32), (regions, 1)),
            rng.random((regions, FEATURES)).astype(np.float32),
            np.zeros(regions, np.int64),
        )
        return f"{format_photo(product)}\tred shoe\t{query_id}"

    rows = [row(1, 1, 10), row(1, 1, 11), row(2, 1, 11), row(3, 3, 12), row(3, 3, 12)]
    (tmp_path / "pools.tsv").write_text("\n".join(["\t".join(HEADER), *rows]) + "\n")
    prepare([tmp_path / "pools.tsv"], tmp_path / "pools", feature_size=FEATURES)
    ways = itertools.product((None, (0.7, 0.2, 0.1)), (None, "smooth", "expand", "reciprocal"))
    for smooth, operator in ways:
        reranker = None if operator is None else find(operator, bundle)
        run = rank.rank_pools(bundle, Dataset(tmp_path / "pools"), smooth=smooth, reranker=reranker)
        assert sorted(zip(run.query_ids.tolist(), run.product_ids.tolist(), strict=True)) == [
            (10, 1),
            (11, 1),
            (11, 2),
            (12, 3),
        ]
        assert np.isfinite(run.scores).all()


def test_features_of_another_size_are_refused(bundle: Bundle, tiny_shop: TinyShop, tmp_path: Path) -> None:
    product = Row(
        1,
        1,
        "",
        (10, 10),
        np.zeros((1, 4), np.float32),
        np.ones((1, FEATURES + 1), np.float32),
        np.zeros(1, np.int64),
    )
    (tmp_path / "other.tsv").write_text("\t".join(HEADER) + f"\n{format_photo(product)}\tred shoe\t1\n")
    prepare([tmp_path / "other.tsv"], tmp_path / "other", feature_size=FEATURES + 1)
    with pytest.raises(ValueError, match="features of 17 values"):
        rank.rank_pools(bundle, Dataset(tmp_path / "other"))
