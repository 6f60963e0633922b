"""Do shards of competition files join to the bytes of one run, whatever the lines are?"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data import prepare as prepare_module
from shopwindow.data import reading
from shopwindow.data.dataset import Dataset
from shopwindow.data.line_shards import LineWork
from shopwindow.data.prepare import prepare
from shopwindow.files import DataError
from shopwindow.shards import cut, do_shard, finished
from tests.data.rows import SIZE, directory_bytes, make_lines, write_tsv
from tests.data.test_prepare_processes import every_kind


def shard_folders(work: LineWork, out: Path, count: int) -> list[Path]:
    for shard in cut(work, out, count):
        do_shard(work, shard)
    return finished(work, out)


def assert_same_content(one: Path, other: Path) -> None:
    """Equal but for how the products are cut into files."""
    ours, theirs = Dataset(one), Dataset(other)
    products = np.arange(len(theirs.product_ids))
    for name in ("counts", "features", "boxes", "photo_sizes", "labels", "photos"):
        mine, their = (getattr(some.regions(products, boxes=True), name) for some in (ours, theirs))
        assert mine.equal(their)
    assert {**ours.manifest, "shards": None} == {**theirs.manifest, "shards": None}
    files, others = (
        {
            name: content
            for name, content in directory_bytes(path).items()
            if not name.startswith(("products-", "man"))
        }
        for path in (one, other)
    )
    assert files == others


@pytest.mark.parametrize("count", [1, 2, 5, 97])
def test_shards_join_to_the_bytes_of_one_run(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RANGE_BYTES", 5000)
    first = write_tsv(tmp_path / "a.tsv", every_kind())
    second = write_tsv(tmp_path / "b.tsv", make_lines(40, first=230))
    weights = tmp_path / "weights.tsv"
    weights.write_text("product_id\tquery_id\tweight\n1005\t5\t3\n1235\t235\t0.5\n", encoding="utf-8")
    options: dict[str, Any] = {"feature_size": SIZE, "allow_malformed": True, "weights": weights}
    expected = prepare([first, second], tmp_path / "one", **options)
    folders = shard_folders(LineWork((str(first), str(second)), SIZE), tmp_path / "many", count)
    report = prepare([first, second], tmp_path / "many", shards=folders, **options)
    assert report == expected
    assert expected.malformed_rows > 20
    assert directory_bytes(tmp_path / "many") == directory_bytes(tmp_path / "one")
    monkeypatch.setattr(prepare_module, "LEAST_LINKED_BYTES", 0)
    assert prepare([first, second], tmp_path / "linked", shards=folders, **options) == expected
    assert_same_content(tmp_path / "linked", tmp_path / "one")


def test_large_shards_of_new_products_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "LEAST_LINKED_BYTES", 0)
    path = write_tsv(tmp_path / "a.tsv", [*make_lines(60), *make_lines(5)])
    folders = shard_folders(LineWork((str(path),), SIZE), tmp_path / "many", 3)
    prepare([path], tmp_path / "many", shards=folders)
    prepare([path], tmp_path / "one")
    links = [file.stat().st_nlink for file in sorted((tmp_path / "many").glob("products-*.arrow"))]
    assert links == [2, 2, 1]
    assert_same_content(tmp_path / "many", tmp_path / "one")


def test_a_shard_without_a_good_line_is_one_too(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.tsv", [b"x" * 500 + b"\n", *make_lines(3)])
    work = LineWork((str(path),))
    folders = shard_folders(work, tmp_path / "many", 4)
    assert not (folders[0] / "lines/manifest.json").exists()
    prepare([path], tmp_path / "one", allow_malformed=True)
    prepare([path], tmp_path / "many", allow_malformed=True, shards=folders)
    assert directory_bytes(tmp_path / "many") == directory_bytes(tmp_path / "one")


def test_the_verb_does_shards_and_joins_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = str(write_tsv(tmp_path / "a.tsv", make_lines(50))), str(tmp_path / "many")
    for number in (3, 1, 1):
        main(["prepare", path, "--out", out, "--shard", f"{number}/3"])
    with pytest.raises(SystemExit) as stop:
        main(["prepare", path, "--out", out, "--merge"])
    assert stop.value.code == 2
    assert "shards are missing: 2/3" in capsys.readouterr().err
    assert not Path(out).exists()
    main(["prepare", path, "--out", out, "--shard", "2/3"])
    main(["prepare", path, "--out", out, "--merge"])
    main(["prepare", path, "--out", str(tmp_path / "one")])
    assert directory_bytes(Path(out)) == directory_bytes(tmp_path / "one")
    assert not (tmp_path / "many.shards").exists()


def test_a_changed_or_packed_file_is_refused(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "a.tsv", make_lines(50))
    work = LineWork((str(path),))
    shards = cut(work, tmp_path / "many", 2)
    do_shard(work, shards[0])
    write_tsv(path, make_lines(51))
    with pytest.raises(DataError, match="others here than where the work was cut"):
        do_shard(work, shards[1])
    with pytest.raises(DataError, match=r"1 shards are of other settings.*files was"):
        finished(work, tmp_path / "many")
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match="unpack it first"):
        cut(work, tmp_path / "many", 2)
