"""Is an index that was encoded in shards the one of a single run, to the byte?"""

from __future__ import annotations

from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.files import DataError
from shopwindow.search.building import build_index
from shopwindow.search.product_shards import ProductWork
from shopwindow.shards import CARD, cut, do_shard, finished
from tests.search.conftest import Shop
from tests.search.test_building import answers, files_of


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("kind", ["shop", "late"])
def test_shards_make_the_index_of_one_run(
    kind: str, count: int, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopwindow.search.encoding.ENCODED_AT_ONCE", 32)
    shop: Shop = request.getfixturevalue(kind)
    out = tmp_path / "many"
    work = ProductWork(str(shop.bundle), str(shop.dataset))
    for shard in reversed(cut(work, out, count)):
        do_shard(work, shard)
    work.join(finished(work, out), out)
    encoded = (tmp_path / "many.indexing/vectors.f32").stat()
    build_index(shop.bundle, shop.dataset, out, approximate_from=100)
    build_index(shop.bundle, shop.dataset, tmp_path / "one", approximate_from=100)
    assert encoded.st_size == 4 * 32 * 300
    assert files_of(out) == files_of(tmp_path / "one")
    assert answers(out) == answers(tmp_path / "one")


def test_a_killed_shard_goes_on_and_one_of_another_model_is_refused(
    shop: Shop, late: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopwindow.search.encoding.ENCODED_AT_ONCE", 32)
    out = tmp_path / "many"
    work = ProductWork(str(shop.bundle), str(shop.dataset))
    shard = cut(work, out, 2)[0]
    do_shard(work, shard)
    # As a kill leaves it: a product is half written and there is no card. Its batch is encoded again, with equal bits.
    vectors = shard.path / "encoded/vectors.f32"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-70])
    (shard.path / CARD).unlink()
    do_shard(work, shard)
    assert vectors.read_bytes() == whole
    vectors.write_bytes(whole[:-4])
    do_shard(work, cut(work, out, 2)[1])
    with pytest.raises(DataError, match=r"vectors\.f32: \d+ bytes, \d+ were written"):
        finished(work, out)
    vectors.write_bytes(whole)
    assert len(finished(work, out)) == 2
    with pytest.raises(DataError, match=r"2 shards are of other settings.*bundle was"):
        finished(ProductWork(str(late.bundle), str(shop.dataset)), out)


def test_the_verb_makes_an_index_over_processes(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["index", "make", str(shop.bundle), str(shop.dataset)]
    main([*words, "--out", str(tmp_path / "one")])
    main([*words, "--out", str(tmp_path / "many"), "--over", "processes:2", "--shards", "2"])
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", "one"]
