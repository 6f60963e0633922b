"""Made-up data has the competition's form and lengths, and searches find products in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import made
import search
from shopwindow.data.dataset import Dataset


@pytest.mark.slow
def test_a_made_dataset_has_every_row_and_pools_of_equal_size(tmp_path: Path) -> None:
    made.write_dataset(tmp_path / "pools", 600, rows_per_query=200, features=16)
    dataset = Dataset(tmp_path / "pools")
    assert len(dataset.product_ids) == 600
    assert len(dataset.query_texts) == 3
    assert dataset.feature_size == 16
    assert not (tmp_path / "pools.tsv").exists()


def test_photos_have_as_many_regions_as_those_of_the_competition() -> None:
    lengths = made.photo_lengths(50_000, np.random.default_rng(0), most=91)
    assert lengths.mean() == pytest.approx(made.MEAN_REGIONS, abs=0.1)
    assert (lengths == 1).mean() == pytest.approx(1 / 3, abs=0.05)
    assert lengths.max() <= 91


def test_ours_finds_the_nearest_products_and_those_that_pass_a_filter(tmp_path: Path) -> None:
    products, queries = made.clustered(3_000, 20, search.HIDDEN)
    exact = np.stack([np.argpartition(-(products @ query), search.AT)[: search.AT] for query in queries])
    build, opened = search.SYSTEMS["ours"]
    build(tmp_path / "float32", products)
    effort, share = search.least_effort(lambda effort: opened(tmp_path / "float32", effort), queries, exact)
    assert effort <= search.EFFORTS[-1]
    assert share >= search.WANTED
    ids = search.EXACT["ours"](tmp_path / "float32", products)(queries[0])
    assert set(ids.tolist()) == set(exact[0].tolist())
