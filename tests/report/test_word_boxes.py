"""The picture shows each word's frame at its box, whatever the photo, the words and the boxes are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shopwindow.files import DataError
from shopwindow.report.explanations import COLOURS, Box, _free_place, _overlap, draw_word_boxes

MARGIN, LINE = 32, 4
INK, WHITE = (32, 34, 38), (255, 255, 255)
WHOLE: Box = (0.0, 0.0, 320.0, 320.0)
SMALL: Box = (80.0, 40.0, 160.0, 240.0)


def drawn(
    folder: Path,
    boxes: list[Box],
    words: list[str],
    looks_at: list[int],
    weights: list[float],
    *,
    photo: Path | None = None,
    size: tuple[int, int] = (320, 320),
) -> np.ndarray:
    out = folder / "picture.png"
    draw_word_boxes(photo, size, boxes, words, looks_at, weights, "7, place 1", out)
    with Image.open(out) as opened:
        assert (opened.format, opened.mode) == ("PNG", "RGB")
        return np.asarray(opened)


def shows(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where in the photo's field (of 640 px) a colour is."""
    found: np.ndarray = (picture[: MARGIN + 660, : MARGIN + 660] == colour).all(axis=2)
    return found


def test_frame_lies_around_its_box_in_the_words_colour(tmp_path: Path) -> None:
    picture = drawn(tmp_path, [WHOLE, SMALL], ["red", "shoe"], [0, 1], [0.2, 0.5])
    # the photo of 320 px is drawn with 640: a side counts twice
    top, left, bottom, right = (MARGIN + 2 * int(side) for side in SMALL)
    middle_y, middle_x = (top + bottom) // 2, (left + right) // 2
    for y, x in ((top - 1, middle_x), (bottom, middle_x), (middle_y, left - 1), (middle_y, right)):
        assert tuple(picture[y, x]) == COLOURS[1]
    for y, x in ((top - LINE - 1, middle_x), (middle_y, left - LINE - 1), (middle_y, middle_x)):
        assert tuple(picture[y, x]) not in COLOURS
    assert tuple(picture[MARGIN - 1, MARGIN + 300]) == COLOURS[0]


def test_words_at_one_box_have_frames_around_one_another(tmp_path: Path) -> None:
    picture = drawn(tmp_path, [SMALL], ["a", "b", "c"], [0, 0, 0], [0.1, 0.2, 0.3])
    top, x = MARGIN + 160, MARGIN + 280
    assert [tuple(picture[top - 1 - LINE * number, x]) for number in range(3)] == list(COLOURS[:3])


def test_of_many_words_at_one_box_the_six_strongest_have_frames(tmp_path: Path) -> None:
    weights = [0.1, 0.9, 0.2, 0.8, -0.7, 0.6, 0.5, 0.4]
    picture = drawn(tmp_path, [SMALL], list("abcdefgh"), [0] * 8, weights)
    top, x = MARGIN + 160, MARGIN + 280
    framed = [tuple(picture[top - 1 - LINE * number, x]) for number in range(6)]
    assert framed == [COLOURS[number] for number in (1, 3, 4, 5, 6, 7)]
    assert tuple(picture[top - 1 - LINE * 6, x]) not in COLOURS


def test_every_box_has_its_number_and_a_line_where_no_word_looks(tmp_path: Path) -> None:
    plain = drawn(tmp_path, [WHOLE, SMALL], ["red"], [0], [0.2])
    top, left, bottom, right = (MARGIN + 2 * int(side) for side in SMALL)
    right, bottom = right - 1, bottom - 1
    for y, x in ((top, left + 200), (bottom, left + 200), (top + 80, left), (top + 80, right)):
        assert tuple(plain[y, x]) == INK
    assert tuple(plain[top + 80, left + 200]) not in (INK, WHITE)
    for y, x in ((bottom - 2, right - 2), (MARGIN + 637, MARGIN + 637)):  # the corners have a number each
        around = plain[y - 14 : y, x - 10 : x].reshape(-1, 3)
        assert (around == WHITE).all(axis=1).any()
        assert (around == INK).all(axis=1).mean() > 0.5


def test_numbers_of_boxes_with_one_corner_lie_beside_one_another() -> None:
    taken: list[tuple[int, int, int, int]] = []
    for _ in range(12):
        taken.append(_free_place((0, 0, 100, 100), (20, 17), taken))
    for place in taken:
        assert 0 <= place[0] < place[2] <= 100
        assert 0 <= place[1] < place[3] <= 100
        assert not any(_overlap(place, other) for other in taken if other is not place)
    assert taken[0] == (80, 83, 100, 100)
    assert _free_place((50, 50, 51, 51), (20, 17), []) == (31, 34, 51, 51)


def test_word_without_weight_is_listed_without_a_frame(tmp_path: Path) -> None:
    picture = drawn(tmp_path, [SMALL], ["new", "shoe"], [0, 0], [0.0, 0.5])
    assert not shows(picture, COLOURS[0]).any()
    assert shows(picture, COLOURS[1]).any()
    assert (picture == COLOURS[0]).all(axis=2).any()


def test_photo_is_drawn_where_it_is_and_an_empty_field_where_not(tmp_path: Path) -> None:
    Image.new("RGB", (320, 320), (10, 200, 30)).save(tmp_path / "7.png")
    with_photo = drawn(tmp_path, [SMALL], ["a"], [0], [1.0], photo=tmp_path / "7.png")
    assert tuple(with_photo[MARGIN + 600, MARGIN + 600]) == (10, 200, 30)
    for missing in (None, tmp_path / "8.png"):
        without = drawn(tmp_path, [SMALL], ["a"], [0], [1.0], photo=missing)
        assert without.shape == with_photo.shape
        assert np.array_equal(shows(without, COLOURS[0]), shows(with_photo, COLOURS[0]))


def test_broken_photo_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "7.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    with pytest.raises(DataError, match="cannot be read as a photo"):
        drawn(tmp_path, [SMALL], ["a"], [0], [1.0], photo=tmp_path / "7.jpg")
    assert [file.name for file in tmp_path.iterdir()] == ["7.jpg"]


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (1, 1), (20_000, 30_000), (3, 100_000)])
def test_any_shape_of_photo_gives_a_picture_of_sensible_size(tmp_path: Path, size: tuple[int, int]) -> None:
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    picture = drawn(tmp_path, [box], ["shoe"], [0], [1.0], size=size)
    assert 200 <= picture.shape[0] <= 704
    assert 600 <= picture.shape[1] <= 1426
    assert shows(picture, COLOURS[0]).any()


@pytest.mark.parametrize(
    "box",
    [
        (50.0, 50.0, 50.0, 50.0),
        (0.0, 0.0, 0.0, 320.0),
        (320.0, 320.0, 320.0, 320.0),
        (-9.0, 1.0, 999.0, 400.0),
    ],
)
def test_box_of_no_area_or_beyond_the_photo_has_a_frame(tmp_path: Path, box: Box) -> None:
    assert shows(drawn(tmp_path, [box], ["shoe"], [0], [1.0]), COLOURS[0]).sum() > 4 * LINE


def test_every_one_of_many_words_is_listed(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(64)]
    few = drawn(tmp_path, [SMALL], words[:5], [0] * 5, [1.0] * 5)
    many = drawn(tmp_path, [SMALL], words, [0] * 64, [1.0] * 64)
    assert few.shape[0] == 704
    assert 704 < many.shape[0] < 4000
    listed = (many[:, 640 + 2 * MARGIN :] == COLOURS[63 % len(COLOURS)]).all(axis=2).any(axis=1)
    assert listed[-2 * MARGIN :].any()  # the last word's bar ends the picture


def test_long_words_are_shortened(tmp_path: Path) -> None:
    plain = drawn(tmp_path, [SMALL], ["shoe"], [0], [1.0])
    long = drawn(tmp_path, [SMALL], ["w" * 5000], [0], [1.0])
    assert long.shape == plain.shape
    weight = np.s_[MARGIN + 40 : MARGIN + 70, -MARGIN - 120 :]
    assert np.array_equal(long[weight], plain[weight])  # never written over


def test_words_boxes_and_weights_must_fit_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 words, 1 boxes looked at, 2 weights"):
        drawn(tmp_path, [SMALL], ["a", "b"], [0], [1.0, 1.0])
    with pytest.raises(ValueError, match="none of the 1"):
        drawn(tmp_path, [SMALL], ["a"], [1], [1.0])
    assert list(tmp_path.iterdir()) == []


def test_no_words_give_the_photo_alone(tmp_path: Path) -> None:
    assert drawn(tmp_path, [SMALL], [], [], []).shape[0] == 704
