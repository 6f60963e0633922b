"""Object storage, by the real protocol of S3: what is read, written, replaced last, and refused.

Skipped where moto's server is missing (`pip install 'moto[server]'`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.features import Features
from shopwindow.files import DataError
from shopwindow.objects import fetched, file_system, is_object, located, names_below, put
from tests.data.rows import directory_bytes, make_lines, write_tsv
from tests.search.catalogue import write_bundle, write_dataset
from tests.search.test_building import files_of
from tests.vision.photos import write_shop


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server that speaks S3, on this machine alone."""
    pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield address
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, found by the environment as a user's is."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    file_system.cache_clear()
    name = f"shop{time.time_ns()}"
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT"), timeout=10).close()
    yield f"s3://{name}"
    file_system.cache_clear()


def upload(folder: Path, place: str) -> None:
    """Files of a folder, without a marker."""
    files, path = located(place)
    for one in sorted(folder.rglob("*")):
        if one.is_file():
            with files.open_output_stream(f"{path}/{one.relative_to(folder).as_posix()}") as out:
                out.write(one.read_bytes())


@pytest.mark.parametrize(
    ("place", "is_one"),
    [("s3://shop/a", True), ("gs://shop/a", True), ("https://shop/a", False), ("s3/a", False), (None, False)],
)
def test_what_is_an_object(place: str | None, is_one: bool) -> None:
    assert is_object(place) == is_one


def test_photos_in_a_bucket_give_the_features_of_a_folder(bucket: str, tmp_path: Path) -> None:
    table = write_shop(tmp_path / "shop", 30)
    upload(tmp_path / "shop", f"{bucket}/shop")
    words = ["--backbone", "plain", "--threads", "1"]
    main(["extract", str(table), "--out", str(tmp_path / "here"), *words])
    main(["extract", f"{bucket}/shop/photos", "--out", f"{bucket}/features", *words])
    names = [name for name, _, _ in names_below(f"{bucket}/features")]
    assert {"features.json", "catalogue.arrow", "photos-00000.arrow"} <= set(names)
    there, here = Features(fetched(f"{bucket}/features")), Features(tmp_path / "here")
    assert there.photos[1] == (f"{bucket}/shop/photos/1.png",)
    assert sorted(there.ids.tolist()) == sorted(range(30))
    order = [there.ids.tolist().index(number) for number in range(30)]
    assert there.regions(np.array(order)).features.equal(here.regions(np.arange(30)).features)
    # A table there whose photos lie there.
    words += ["--photos", f"{bucket}/shop"]
    main(["extract", f"{bucket}/shop/products.csv", "--out", str(tmp_path / "table"), *words])
    assert Features(tmp_path / "table").ids.tolist() == here.ids.tolist()


def test_files_and_datasets_go_through_a_bucket_in_shards(bucket: str, tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "train.tsv", make_lines(60))
    upload(tmp_path, f"{bucket}/files")
    out, tsv = f"{bucket}/data/train", f"{bucket}/files/train.tsv"
    main(["prepare", str(path), "--out", str(tmp_path / "one")])
    for number in (2, 1):
        main(["prepare", tsv, "--out", out, "--shard", f"{number}/2"])
    assert not names_below(out)
    main(["prepare", tsv, "--out", out, "--merge"])
    assert directory_bytes(fetched(out)) == directory_bytes(tmp_path / "one")
    assert not names_below(f"{out}.shards")


def test_a_bundle_and_an_index_go_through_a_bucket(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(write_bundle(tmp_path / "bundle"), f"{bucket}/bundle")
    put(write_dataset(tmp_path / "dataset", range(40)), f"{bucket}/dataset")
    main(
        [
            "index",
            "make",
            str(tmp_path / "bundle"),
            str(tmp_path / "dataset"),
            "--out",
            str(tmp_path / "index"),
        ]
    )
    main(["index", "make", f"{bucket}/bundle", f"{bucket}/dataset", "--out", f"{bucket}/index"])
    ours, theirs = files_of(fetched(f"{bucket}/index")), files_of(tmp_path / "index")
    # The card names where the dataset lies, and nothing else differs.
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == ["index.json"]
    capsys.readouterr()
    main(["search", f"{bucket}/index", "red", "shoe", "--json"])
    there = capsys.readouterr().out
    main(["search", str(tmp_path / "index"), "red", "shoe", "--json"])
    assert there == capsys.readouterr().out


def test_a_folder_is_replaced_marker_last_and_nobody_elses(bucket: str, tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "train.tsv", make_lines(20))
    main(["prepare", str(path), "--out", str(tmp_path / "one")])
    put(tmp_path / "one", f"{bucket}/data")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "rejected.jsonl").unlink()
    put(tmp_path / "two", f"{bucket}/data")
    assert directory_bytes(fetched(f"{bucket}/data")) == directory_bytes(tmp_path / "two")
    upload(tmp_path / "one", f"{bucket}/other/inner")
    with pytest.raises(DataError, match=r"holds other files \(no manifest.json\)"):
        put(tmp_path / "one", f"{bucket}/other")
    # A put that breaks off, here at a file that cannot be read, leaves no marker.
    (tmp_path / "one" / "pairs.copy").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match="cannot be written"):
        put(tmp_path / "one", f"{bucket}/data")
    assert "manifest.json" not in [name for name, _, _ in names_below(f"{bucket}/data")]


def test_what_is_missing_or_changed_in_place_is_refused(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in (
        (["prepare", f"{bucket}/no.tsv", "--out", str(tmp_path / "x")], "no.tsv: no such object or folder"),
        (["index", "compact", f"{bucket}/index"], "is changed where it is a folder of this machine only"),
        (["prepare", __file__, "--out", f"{bucket}/x", "--over", "ray"], "a folder that all of them share"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
        assert says in capsys.readouterr().err
    assert os.listdir(tmp_path) in ([], ["cache"])  # noqa: PTH208 - names alone
