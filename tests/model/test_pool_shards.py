"""Is a run that was ranked in shards the one of a single process?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.files import DataError, whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.pool_shards import PoolWork, joined
from shopwindow.model.recipe import load_recipe
from shopwindow.ranking.runs import Run, read_run
from shopwindow.shards import cut, do_shard, finished
from tests.model.conftest import TinyShop
from tests.model.parts import part, transformer


@pytest.fixture
def bundle(tiny_shop: TinyShop, tmp_path: Path) -> Path:
    recipe = load_recipe("small", {"parts": [part(transformer(inner=48), transformer(inner=48))]})
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    with whole_directory(tmp_path / "bundle", marker=MARKER) as folder:
        Bundle(model, tokenizer).save_into(folder)
    return tmp_path / "bundle"


def assert_same(run: Run, other: Run) -> None:
    assert run.queries.tolist() == other.queries.tolist()
    assert run.product_ids.tolist() == other.product_ids.tolist()
    assert np.allclose(run.scores, other.scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("operator", [None, "expand:3,2"])
def test_shards_rank_as_one_process_does(
    operator: str | None, count: int, bundle: Path, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    valid, out = str(tiny_shop.valid.path), tmp_path / "many.run"
    options = [] if operator is None else ["--operator", operator]
    main(["rank", str(bundle), valid, "--out", str(tmp_path / "one.run"), *options])
    work = PoolWork(str(bundle), valid, operator=operator, first=50)
    for shard in cut(work, out, count):
        do_shard(work, shard)
    assert_same(joined(finished(work, out)), read_run(tmp_path / "one.run"))
    main(["rank", str(bundle), valid, "--out", str(out), "--merge", *options])
    assert_same(read_run(out), read_run(tmp_path / "one.run"))


def test_missing_shards_and_other_operators_are_named(
    bundle: Path, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    work = PoolWork(str(bundle), str(tiny_shop.valid.path), first=50)
    shards = cut(work, tmp_path / "many.run", 5)
    for shard in (shards[0], shards[3]):
        do_shard(work, shard)
    with pytest.raises(DataError, match="shards are missing: 2/5, 3/5, 5/5"):
        finished(work, tmp_path / "many.run")
    other = PoolWork(str(bundle), str(tiny_shop.valid.path), operator="expand", first=50)
    with pytest.raises(DataError, match='operator was null, now "expand"'):
        finished(other, tmp_path / "many.run")
