"""Regions: what is drawn is what was asked for, boxes frame it, and features say what the pixels say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from shopwindow.drawn.canvas import Canvas, Placement, curve, ellipse, rounded
from shopwindow.drawn.figures import PHOTOS_BY_BOXES, draw_count
from shopwindow.drawn.goods import CATEGORIES, KINDS, Good, Kind, shape_of
from shopwindow.drawn.look import make_look
from shopwindow.drawn.paint import COLOURS, FINISHES, PATTERNS, Paint
from shopwindow.drawn.photo import draw_photo
from shopwindow.drawn.regions import detect
from shopwindow.vision.featurise import region_features

RED = Paint((200.0, 40.0, 40.0))


def _sheet(side: int = 100) -> Canvas:
    return Canvas(side, side, Placement(side / 2, 0, side), np.random.default_rng(0))


def _good(kind: Kind, colour: str = "red", pattern: str = "plain") -> Good:
    return Good(kind.name, colour, pattern, kind.materials[0], kind.shapes[0].name)


def test_a_square_drawn_in_units_covers_the_pixels_it_should() -> None:
    sheet = _sheet()
    sheet.fill("square", rounded(-0.25, 0.25, 0.25, 0.75, 0.0), RED)
    assert sheet.box() == (25, 25, 75, 75)
    assert sheet.parts[0].box == (25, 25, 75, 75)


def test_a_flipped_thing_is_its_mirror_image() -> None:
    left, right = (
        Canvas(100, 100, Placement(50, 0, 100, flipped=flipped), np.random.default_rng(0))
        for flipped in (False, True)
    )
    for sheet in (left, right):
        sheet.fill("square", rounded(0.1, 0.2, 0.3, 0.6, 0.0), RED)
    assert left.box() == (20, 60, 60, 80)
    assert right.box() == (20, 20, 60, 40)


def test_what_lies_outside_the_photo_is_not_a_part() -> None:
    sheet = _sheet()
    sheet.fill("far", ellipse(3, 3, 0.2, 0.2), RED)
    assert sheet.parts == []
    assert sheet.box() is None


def test_a_path_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(ValueError, match="ends inside a C"):
        curve("M 0 0 C 1 1 2 2")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_shape_of_a_kind_is_as_wide_as_its_row_says(kind: Kind) -> None:
    for shape in kind.shapes:
        look = make_look("red", "plain", kind.materials[0], shape.name, np.random.default_rng(0))
        sheet = Canvas(500, 260, Placement(250, 30, 200), np.random.default_rng(0))
        kind.draw(sheet, look)
        box = sheet.box()
        assert box is not None
        wide, tall = box[3] - box[1], box[2] - box[0]
        assert wide / 200 == pytest.approx(shape.aspect, rel=0.12, abs=0.05)
        assert (
            tall / 200 == pytest.approx(1, abs=0.12) or kind.name == "vase"
        )  # a vase without twigs is shorter


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_shows_its_second_colour_but_keeps_its_ground(pattern: str) -> None:
    paint = Paint(
        (0.0, 0.0, 0.0), "ceramic", pattern, (255.0, 255.0, 255.0), (255.0, 255.0, 255.0), period=0.2
    )
    u, v = np.meshgrid(np.linspace(0, 1, 200, dtype=np.float32), np.linspace(0, 1, 200, dtype=np.float32))
    ink = paint.texture(200, 200, lambda: (u, v), unit=200, rng=np.random.default_rng(0))
    share = ink.mean() / 255
    assert share == 0 if pattern == "plain" else 0.1 < share < 0.45


def test_every_material_has_a_finish() -> None:
    assert {material for kind in KINDS for material in kind.materials} <= set(FINISHES)
    assert len(KINDS) >= 16
    assert len(CATEGORIES) == 33
    assert CATEGORIES[28] == "others"
    assert CATEGORIES[32] == "hand"


@pytest.mark.parametrize("colour", ["red", "green", "blue", "yellow", "black", "white"])
def test_the_main_box_frames_the_good_in_its_colour(colour: str) -> None:
    near, nearest = [], []
    for number, kind in enumerate(KINDS):
        if kind.name in ("lamp", "chair", "table", "watch", "umbrella", "mug", "bottle"):
            continue  # legs, stands and dials of another colour, or see-through
        drawn = draw_photo(_good(kind, colour), np.random.default_rng([7, number]), regions=1)
        top, left, bottom, right = (int(side) for side in drawn.good.box)
        pixels = np.asarray(drawn.photo, dtype=np.float64)[top:bottom, left:right].reshape(-1, 3)
        near.append((np.abs(pixels - COLOURS[colour]).max(axis=1) < 75).mean())
        whole = np.asarray(drawn.photo, dtype=np.float64).reshape(-1, 3)
        nearest.append((np.abs(whole - COLOURS[colour]).max(axis=1) < 75).mean())
    assert np.median(near) > 0.4
    if colour != "white":  # backgrounds are light
        assert np.mean(near) > 1.3 * np.mean(nearest)


def test_the_same_seed_draws_the_same_photo_and_another_seed_another() -> None:
    good = _good(KINDS[2], pattern="dotted")
    one, same, other = (draw_photo(good, np.random.default_rng(seed), regions=4) for seed in (1, 1, 2))
    assert one.photo.tobytes() == same.photo.tobytes()
    assert one.parts == same.parts
    assert one.photo.tobytes() != other.photo.tobytes()


def test_regions_are_as_many_as_asked_inside_the_photo_and_mostly_others() -> None:
    labels: Counter[int] = Counter()
    rng = np.random.default_rng(3)
    for number in range(150):
        kind = KINDS[number % len(KINDS)]
        count = draw_count(PHOTOS_BY_BOXES, rng) if number else 50
        drawn = draw_photo(_good(kind), rng, regions=count)
        found = detect(drawn, count, rng)
        width, height = drawn.photo.size
        assert found.boxes.shape == (count, 4)
        assert found.boxes.dtype == np.float32
        assert len(found.shows) == len(found.labels) == count
        top, left, bottom, right = found.boxes.T
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (bottom <= height).all()
        assert (right <= width).all()
        assert (bottom - top >= 4).all()
        assert (right - left >= 4).all()
        assert kind.name in found.shows or "whole photo" in found.shows
        labels.update(found.labels.tolist())
    assert 0.55 < labels[28] / sum(labels.values()) < 0.8
    assert set(labels) <= set(range(33))


def test_features_are_non_negative_sparse_and_up_to_about_seven() -> None:
    rows = []
    for number in range(40):
        drawn = draw_photo(_good(KINDS[number % len(KINDS)]), np.random.default_rng(number), regions=2)
        box = np.array([drawn.good.box], dtype=np.float32)
        rows.append(region_features(np.asarray(drawn.photo), box))
    features = np.concatenate(rows)
    assert features.dtype == np.float32
    assert features.min() == 0
    assert 5 < features.max() < 9
    assert 0.3 < (features == 0).mean() < 0.5
    assert (features.astype(np.float16).astype(np.float32) == features)[features < 8].all()


def test_features_of_a_box_do_not_depend_on_the_other_boxes() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 90, 120], [10, 20, 50, 70], [5, 5, 9, 9]], dtype=np.float32)
    together = region_features(photo, boxes)
    alone = np.concatenate([region_features(photo, boxes[k : k + 1]) for k in range(3)])
    np.testing.assert_allclose(
        together, alone, atol=1 / 256
    )  # the last bit of a float32 sum may round the other way


def test_features_follow_the_pixels() -> None:
    photo = np.zeros((64, 128, 3), dtype=np.uint8)
    photo[:, :64] = (200, 30, 30)
    photo[:, 64:] = (30, 30, 200)
    boxes = np.array([[0, 0, 64, 64], [8, 8, 56, 56], [0, 64, 64, 128]], dtype=np.float32)
    red, also_red, blue = region_features(photo, boxes)
    assert np.linalg.norm(red - also_red) < 0.05 * np.linalg.norm(red - blue)


def test_no_boxes_have_no_features() -> None:
    assert region_features(np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.float32)).shape == (0, 2048)


@pytest.mark.slow
def test_a_linear_probe_reads_kind_colour_and_pattern_but_not_perfectly() -> None:
    rng = np.random.default_rng(11)
    truths, rows = [], []
    for number in range(420):
        kind = KINDS[number % 8]
        colour = ("red", "green", "blue", "yellow", "black")[int(rng.integers(5))]
        pattern = ("plain", "striped", "dotted", "checked")[int(rng.integers(4))]
        shape = kind.shapes[int(rng.integers(len(kind.shapes)))].name
        good = Good(kind.name, colour, pattern, kind.materials[int(rng.integers(len(kind.materials)))], shape)
        drawn = draw_photo(good, rng, regions=1 + number % 3)
        rows.append(region_features(np.asarray(drawn.photo), np.array([drawn.good.box], dtype=np.float32)))
        truths.append((good.kind, good.colour, good.pattern))
    features = np.concatenate(rows).astype(np.float64)
    right = [_probe(features, np.array(truths)[:, column], held_out=140) for column in range(3)]
    assert right[0] > 0.8  # chance: 1/8
    assert 0.7 < right[1] < 1  # 1/5
    assert 0.5 < right[2] < 1  # 1/4


def _probe(features: np.ndarray, names: np.ndarray, held_out: int) -> float:
    """Share of the last rows whose name a ridge regression on the rows before gets right."""
    _, number = np.unique(names, return_inverse=True)
    target = np.eye(number.max() + 1)[number]
    learn, centred = slice(0, len(features) - held_out), features - features[:-held_out].mean(axis=0)
    kernel = centred @ centred[learn].T
    ridge = 0.03 * np.trace(kernel[learn]) / (len(features) - held_out)
    weights = np.linalg.solve(kernel[learn] + ridge * np.eye(len(features) - held_out), target[learn])
    return float((np.argmax(kernel[-held_out:] @ weights, axis=1) == number[-held_out:]).mean())


def test_shape_of_finds_a_shape_by_name() -> None:
    assert shape_of(KINDS[0], "high-top").aspect > 1


def test_photos_are_of_the_promised_size() -> None:
    for number in range(30):
        photo: Image.Image = draw_photo(
            _good(KINDS[number % 21]), np.random.default_rng(number), regions=1
        ).photo
        assert 150 <= min(photo.size) <= max(photo.size) <= 360
