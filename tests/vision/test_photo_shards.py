"""Do photos that were encoded in shards give the features of one run?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.features import Features, Shard
from shopwindow.files import DataError
from shopwindow.shards import CARD, cut, do_shard, finished
from shopwindow.vision.photo_shards import PhotoWork, features_of
from tests.vision.photos import write_shop

PLAIN = ["--backbone", "plain", "--threads", "1"]


def a_shop(folder: Path) -> Path:
    """Products with equal photos far apart, one with two photos, one without any, and one that cannot be read."""
    table = write_shop(folder, 130)
    photos = folder / "photos"
    (photos / "120.png").write_bytes((photos / "3.png").read_bytes())
    (photos / "64.png").write_bytes(b"no photo")
    text = table.read_text().replace("photos/7.png", "photos/7.png|photos/90.png")
    table.write_text(text + "SKU-bare,thing,1,\n")
    return table


def assert_same_features(one: Path, other: Path) -> None:
    ours, theirs = Features(one), Features(other)
    assert ours.content_hash == theirs.content_hash
    assert {**ours.manifest, "shards": None} == {**theirs.manifest, "shards": None}
    rows = np.arange(len(theirs.ids))
    mine, their = ours.regions(rows), theirs.regions(rows)
    for name in ("counts", "features", "boxes", "photo_sizes", "labels", "photos"):
        assert getattr(mine, name).equal(getattr(their, name))
    assert (one / "unreadable.jsonl").read_text() == (other / "unreadable.jsonl").read_text()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_give_the_features_of_one_run(count: int, tmp_path: Path) -> None:
    table, out = str(a_shop(tmp_path / "shop")), tmp_path / "many"
    words = ["extract", table, *PLAIN, "--allow-unreadable"]
    main([*words, "--out", str(tmp_path / "one")])
    for number in range(count, 0, -1):
        main([*words, "--out", str(out), "--shard", f"{number}/{count}"])
    main([*words, "--out", str(out), "--merge"])
    assert_same_features(out, tmp_path / "one")
    stored = [key for shard in sorted(out.glob("photos-*.arrow")) for key in keys_of(shard)]
    assert len(stored) == len(set(stored)) == 128
    # The features go on as others do: what changes is encoded, and no other.
    (tmp_path / "shop/photos/64.png").write_bytes((tmp_path / "shop/photos/5.png").read_bytes())
    main([*words, "--out", str(out)])
    main([*words, "--out", str(tmp_path / "one")])
    assert_same_features(out, tmp_path / "one")


def keys_of(shard: Path) -> list[str]:
    keys: list[str] = Shard.open(shard).keys.to_pylist()
    return keys


def test_a_killed_shard_goes_on_and_a_missing_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = str(write_shop(tmp_path / "shop", 60)), tmp_path / "many"
    work = PhotoWork(table, backbone="plain", threads=1)
    shards = cut(work, out, 3)
    do_shard(work, shards[0])
    before = (features_of(shards[0].path) / "photos-00000.arrow").stat().st_mtime_ns
    (shards[0].path / CARD).unlink()
    do_shard(work, shards[0])
    assert (features_of(shards[0].path) / "photos-00000.arrow").stat().st_mtime_ns == before
    assert len(list(features_of(shards[0].path).glob("photos-*.arrow"))) == 1
    do_shard(work, shards[2])
    with pytest.raises(SystemExit) as stop:
        main(["extract", table, "--out", str(out), *PLAIN, "--merge"])
    assert stop.value.code == 2
    assert "shards are missing: 2/3" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(DataError, match="photos was"):
        finished(
            replace(work, photos=str(tmp_path / "shop/photos"), place=str(tmp_path / "shop/photos")), out
        )


def test_too_many_unreadable_photos_of_all_shards_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = str(write_shop(tmp_path / "shop", 60)), tmp_path / "many"
    for number in (8, 40):
        (tmp_path / f"shop/photos/{number}.png").write_bytes(b"no photo")
    with pytest.raises(SystemExit):
        main(["extract", table, "--out", str(out), *PLAIN, "--over", "processes:1", "--shards", "2"])
    assert "2 of 60 photos cannot be read, more than 1 %" in capsys.readouterr().err
    main(["extract", table, "--out", str(out), *PLAIN, "--merge", "--allow-unreadable"])
    assert json.loads((out / "features.json").read_text())["counts"]["unreadable"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"shop", "many"}
