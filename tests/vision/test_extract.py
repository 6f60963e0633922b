"""From a shop's photos to features: what is kept, counted, encoded once, and gone on with after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shopwindow.cli import main
from shopwindow.data.features import Features
from shopwindow.data.products import Products
from shopwindow.files import DataError
from shopwindow.vision.backbone import Backbone, Detections, Detector, fingerprint_of
from shopwindow.vision.extract import Extracted, extract
from shopwindow.vision.pictures import Picture, open_picture
from shopwindow.vision.sources import find_photos
from tests.vision.photos import MeanColour, numbered_photo, photo, write_shop


def products_of(table: Path) -> Products:
    return find_photos(table).products


def test_features_hold_products_photos_columns_and_regions(tmp_path: Path) -> None:
    table = write_shop(tmp_path, 3)
    (tmp_path / "photos" / "big.jpg").write_bytes(photo((250, 0, 0), (400, 200), "JPEG"))
    table.write_text(table.read_text().replace("photos/1.png", "photos/1.png|photos/big.jpg"))
    backbone = MeanColour()
    done = extract(products_of(table), tmp_path / "f", backbone=backbone)
    assert done == Extracted(products=3, photos=4, encoded=4, unreadable=0, without_photo=0)
    assert backbone.encoded == 4
    features = Features(tmp_path / "f")
    assert features.ids.tolist() == ["SKU-0000", "SKU-0001", "SKU-0002"]
    assert features.titles == ["thing 0", "thing 1", "thing 2"]
    assert features.columns.to_pylist() == [{"price": 0.5}, {"price": 1.5}, {"price": 2.5}]
    big, small = str(tmp_path / "photos/big.jpg"), str(tmp_path / "photos/1.png")
    assert features.photos[1] == (small, big)
    assert (features.feature_size, features.label_count) == (3, 2)
    assert features.backbone == backbone.spec()
    regions = features.regions(np.array([2, 1]))
    assert regions.counts.tolist() == [5, 10]
    assert regions.features.dtype == torch.float16
    assert regions.features[:6].tolist() == [[2, 0, 7]] * 5 + [[1, 0, 7]]
    assert regions.boxes is not None
    assert regions.labels is not None
    assert regions.photos is not None
    assert regions.photo_sizes is not None
    assert regions.labels.tolist() == [0, 1, 1, 1, 1] * 3
    assert regions.photos.tolist() == [0] * 10 + [1] * 5
    # The large photo was decoded smaller; its boxes and sizes are its own all the same.
    assert regions.photo_sizes[10].tolist() == [200, 400]
    assert regions.boxes[10:12].tolist() == [[0, 0, 200, 400], [0, 0, 100, 200]]
    assert (regions.features[10].float() - torch.tensor([250.0, 0, 0])).abs().max() < 4


def test_a_rerun_encodes_new_photos_only_and_reads_changed_ones_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out, backbone = write_shop(tmp_path, 30), tmp_path / "f", MeanColour()
    first = extract(products_of(table), out, backbone=backbone)
    content = Features(out).content_hash
    opened: list[int] = []

    def counted(data: bytes, *, wanted: int) -> Picture:
        opened.append(len(data))
        return open_picture(data, wanted=wanted)

    monkeypatch.setattr("shopwindow.vision.extract.open_picture", counted)
    assert extract(products_of(table), out, backbone=backbone).encoded == 0
    assert (Features(out).content_hash, opened, backbone.encoded, first.encoded) == (content, [], 30, 30)
    # One new photo under a new name, one under an old name, one that was only touched.
    (tmp_path / "photos" / "30.png").write_bytes(numbered_photo(30))
    (tmp_path / "photos" / "4.png").write_bytes(numbered_photo(40))
    (tmp_path / "photos" / "5.png").touch()
    table.write_text(table.read_text() + "SKU-0030,thing 30,1,photos/30.png\n")
    assert extract(products_of(table), out, backbone=backbone).encoded == 2
    features = Features(out)
    assert (len(features.ids), len(opened), backbone.encoded) == (31, 2, 32)
    assert features.content_hash != content
    assert features.regions(np.array([4, 5, 30])).features[::5].tolist() == [
        [40, 0, 7],
        [5, 0, 7],
        [30, 0, 7],
    ]


def test_equal_photos_are_encoded_once(tmp_path: Path) -> None:
    table = write_shop(tmp_path, 40)
    for number in range(20):
        (tmp_path / "photos" / f"{number}.png").write_bytes(numbered_photo(99))
    backbone = MeanColour()
    done = extract(products_of(table), tmp_path / "f", backbone=backbone)
    assert (done.photos, done.encoded, backbone.encoded) == (40, 21, 21)
    regions = Features(tmp_path / "f").regions(np.arange(40))
    assert regions.features[::5, 0].tolist() == [99] * 20 + list(range(20, 40))


def test_unreadable_photos_cost_their_product_and_are_listed(tmp_path: Path) -> None:
    table = write_shop(tmp_path, 5)
    folder = tmp_path / "photos"
    (folder / "1.png").write_bytes(b"")
    (folder / "2.png").write_bytes(photo((9, 9, 9), (90, 90), "JPEG")[:-40])
    (folder / "3.png").unlink()
    table.write_text(
        table.read_text().replace("photos/0.png", "photos/0.png|photos/1.png") + "SKU-9,bare,1,\n"
    )
    out = tmp_path / "f"
    with pytest.raises(
        DataError,
        match=r"unreadable\.jsonl: 4 of 6 photos cannot be read, more than 1 %, such as .*1\.png: empty",
    ):
        extract(products_of(table), out, backbone=MeanColour())
    with pytest.raises(DataError, match="is not finished; run the same `shopwindow extract` again"):
        Features(out)
    backbone = MeanColour()
    done = extract(products_of(table), out, backbone=backbone, allow_unreadable=True)
    assert done == Extracted(products=2, photos=5, encoded=0, unreadable=3, without_photo=4)
    assert backbone.encoded == 0
    assert [json.loads(line) for line in (out / "unreadable.jsonl").read_text().splitlines()] == [
        {"product": "SKU-0000", "source": str(folder / "1.png"), "reason": "empty"},
        {"product": "SKU-0001", "source": str(folder / "1.png"), "reason": "empty"},
        {"product": "SKU-0002", "source": str(folder / "2.png"), "reason": "truncated"},
        {"product": "SKU-0003", "source": str(folder / "3.png"), "reason": "no such file"},
        {"product": "SKU-9", "source": None, "reason": "the product has no photo"},
    ]
    features = Features(out)
    assert features.ids.tolist() == ["SKU-0000", "SKU-0004"]
    assert features.photos[0] == (str(folder / "0.png"),)
    (folder / "3.png").write_bytes(numbered_photo(3))
    assert extract(products_of(table), out, backbone=backbone, allow_unreadable=True).products == 3


def test_a_photo_that_broke_since_is_unreadable_though_it_was_encoded_once(tmp_path: Path) -> None:
    table, out = write_shop(tmp_path, 3), tmp_path / "f"
    extract(products_of(table), out, backbone=MeanColour())
    (tmp_path / "photos" / "1.png").write_bytes(b"broken")
    done = extract(products_of(table), out, backbone=MeanColour(), allow_unreadable=True)
    assert (done.products, done.unreadable) == (2, 1)


def test_a_store_that_is_down_takes_no_photo_away(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.pipe("/shelf/1.png", numbered_photo(1))
    table, out = tmp_path / "products.csv", tmp_path / "f"
    table.write_text("id,photo\n1,memory://shelf/1.png\n")
    extract(products_of(table), out, backbone=MeanColour())
    store.rm("/shelf/1.png")
    assert extract(products_of(table), out, backbone=MeanColour()) == Extracted(1, 1, 0, 0, 0)
    with pytest.raises(DataError, match="no such file"):
        extract(products_of(table), tmp_path / "other", backbone=MeanColour())


def test_a_shop_without_any_readable_photo_is_an_error(tmp_path: Path) -> None:
    table = write_shop(tmp_path, 1)
    (tmp_path / "photos" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="no photo could be read"):
        extract(products_of(table), tmp_path / "f", backbone=MeanColour(), allow_unreadable=True)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_features(tmp_path: Path) -> None:
    table = write_shop(tmp_path, 40)
    whole = tmp_path / "whole"
    extract(products_of(table), whole, backbone=MeanColour())
    command = [sys.executable, "-m", "tests.vision.killed", str(table), str(tmp_path / "f")]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert int(run.stdout) >= 3, "the runs were too quick to be killed"
    features, wanted = Features(tmp_path / "f"), Features(whole)
    assert features.content_hash == wanted.content_hash
    rows = np.arange(40)
    assert torch.equal(features.regions(rows).features, wanted.regions(rows).features)
    assert not list((tmp_path / "f").glob(".*"))


def test_a_lost_or_broken_memory_costs_reading_only(tmp_path: Path) -> None:
    table, out, backbone = write_shop(tmp_path, 5), tmp_path / "f", MeanColour()
    extract(products_of(table), out, backbone=backbone)
    (out / "seen.sqlite").write_bytes(b"no database" * 100)
    assert extract(products_of(table), out, backbone=backbone).encoded == 0
    (out / "seen.sqlite").unlink()
    assert extract(products_of(table), out, backbone=backbone).encoded == 0
    assert len(Features(out).ids) == 5


def test_features_of_another_backbone_or_detector_are_never_mixed(tmp_path: Path) -> None:
    table, out = write_shop(tmp_path, 3), tmp_path / "f"
    extract(products_of(table), out, backbone=MeanColour())
    before = Features(out).content_hash
    with pytest.raises(
        DataError, match=r"was made by backbone mean colour \(\w+\), the one asked for is other"
    ):
        extract(products_of(table), out, backbone=MeanColour("other"))
    with pytest.raises(DataError, match="was made with the detector None"):
        extract(products_of(table), out, backbone=MeanColour(), detector=Corner())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(DataError, match="holds other files"):
        extract(products_of(table), tmp_path / "mine", backbone=MeanColour())
    assert Features(out).content_hash == before


class Corner:
    """It sees the lower right quarter of every picture as class 4 and a box beyond the edge as class 1."""

    side = 32

    def spec(self) -> dict[str, Any]:
        return {"name": "corner", "fingerprint": fingerprint_of({"corner": 1})}

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        found = []
        for picture in pictures:
            height, width = picture.height, picture.width
            boxes = [[height / 2, width / 2, height, width], [-5, -5, height + 9, width + 9]]
            found.append(Detections(np.array(boxes, np.float32), np.array([4, 1]), np.ones(2, np.float32)))
        return found


def test_a_detector_s_boxes_are_cropped_and_encoded_after_the_whole_photo(tmp_path: Path) -> None:
    values = np.zeros((80, 120, 3), np.uint8)
    values[40:, 60:] = (200, 100, 0)
    (tmp_path / "p").mkdir()
    Image.fromarray(values).save(tmp_path / "p" / "1.png")
    assert isinstance(Corner(), Detector)
    done = extract(
        find_photos(tmp_path / "p").products, tmp_path / "f", backbone=MeanColour(), detector=Corner()
    )
    features = Features(tmp_path / "f")
    regions = features.regions(np.array([0]))
    assert (done.encoded, features.label_count) == (1, 7)
    assert regions.boxes is not None
    assert regions.labels is not None
    assert regions.labels.tolist() == [0, 6, 3]
    assert regions.boxes.tolist() == [[0, 0, 80, 120], [40, 60, 80, 120], [0, 0, 80, 120]]
    assert regions.features.tolist() == [[50, 25, 0], [200, 100, 0], [50, 25, 0]]


def test_what_float16_cannot_hold_is_an_error(tmp_path: Path) -> None:
    class Huge(MeanColour):
        def encode(self, pictures: Sequence[Image.Image]) -> Any:
            regions = super().encode(pictures)
            return regions.with_features(regions.features * 1e4)

    assert isinstance(Huge(), Backbone)
    with pytest.raises(DataError, match="values beyond float16"):
        extract(products_of(write_shop(tmp_path, 3)), tmp_path / "f", backbone=Huge())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("features.json", b"{", "broken JSON"),
        ("features.json", b'{"format": "shopwindow dataset 2"}', "not of the format 'shopwindow features 1'"),
        ("features.json", b'{"format": "shopwindow features 1"}', "backbone: missing or of another kind"),
        ("features.json", None, r"no features: it holds no features\.json"),
        ("catalogue.arrow", b"", "broken or missing"),
        ("catalogue.arrow", None, "broken or missing"),
        ("photos-00000.arrow", b"x" * 100, "broken or missing"),
        ("photos-00000.arrow", None, "broken or missing"),
    ],
)
def test_broken_features_say_what_is_broken(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    out = tmp_path / "f"
    extract(products_of(write_shop(tmp_path, 3)), out, backbone=MeanColour())
    if content is None:
        (out / name).unlink()
    else:
        (out / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        Features(out).regions(np.arange(3))


def test_a_catalogue_of_another_run_is_not_read(tmp_path: Path) -> None:
    table, out = write_shop(tmp_path, 4), tmp_path / "f"
    extract(products_of(table), out, backbone=MeanColour())
    manifest = (out / "features.json").read_bytes()
    table.write_text(table.read_text().replace("thing 3", "other"))
    extract(products_of(table), out, backbone=MeanColour())
    (out / "features.json").write_bytes(manifest)
    with pytest.raises(
        DataError, match=r"is not the one that features\.json names; run `shopwindow extract` again"
    ):
        _ = Features(out).ids


def test_the_verb_prints_columns_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_shop(tmp_path, 3)
    main(["extract", str(table), "--out", str(tmp_path / "f"), "--backbone", "plain", "--threads", "1"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "columns of the products: id is 'sku', title is 'title', photo is 'photo'"
    assert [line.split() for line in printed[2:5]] == [
        ["products", "3"],
        ["photos", "3"],
        ["photos", "encoded", "by", "this", "run", "3"],
    ]
    (tmp_path / "photos" / "1.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        main(["extract", str(table), "--out", str(tmp_path / "f"), "--backbone", "plain"])
    assert stopped.value.code == 2
    assert "1 of 3 photos cannot be read" in capsys.readouterr().err
    main(["extract", str(table), "--out", str(tmp_path / "f"), "--backbone", "plain", "--allow-unreadable"])
    assert "products left out, without a photo" in capsys.readouterr().out
