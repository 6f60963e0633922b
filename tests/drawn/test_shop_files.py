"""The drawn shop as a folder: the competition's files, true to what was drawn, the same bytes for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shopwindow.data.competition import HEADER, parse_row
from shopwindow.drawn.writing import ShopSummary, draw_shop
from shopwindow.files import DataError
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.runs import read_run
from shopwindow.report.contact_sheet import SheetCell, SheetRow, contact_sheet, rows_of_run
from shopwindow.vision.featurise import region_features


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ShopSummary]:
    out = tmp_path_factory.mktemp("drawn") / "shop"
    return out, draw_shop(out, products=60, seed=3)


def _truth(folder: Path) -> dict[int | str, dict[str, object]]:
    lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {product["product_id"]: product for product in map(json.loads, lines)}


def test_a_shop_has_exactly_its_files(shop: tuple[Path, ShopSummary]) -> None:
    folder, _ = shop
    assert {path.name for path in folder.iterdir()} == {
        "photos", "train.tsv", "valid.tsv", "test.tsv", "valid_answer.json", "test_answer.json",
        "multimodal_labels.txt", "columns.csv", "products.csv", "clicks.csv", "judgements.csv",
        "truth.jsonl", "drawn.json",
    }  # fmt: skip
    assert len(list((folder / "photos").glob("*.jpg"))) == 60


def test_every_row_reads_back_and_is_what_was_drawn(shop: tuple[Path, ShopSummary]) -> None:
    folder, summary = shop
    truth = _truth(folder)
    for split, count in (
        ("train", summary.train_rows),
        ("valid", summary.valid_rows),
        ("test", summary.test_rows),
    ):
        header, *lines = (folder / f"{split}.tsv").read_bytes().splitlines()
        assert header == "\t".join(HEADER).encode()
        assert len(lines) == count
        for line in lines:
            product = parse_row(line)
            drawn = truth[product.product_id]
            assert drawn["split"] == split
            boxes = drawn["boxes"]
            assert isinstance(boxes, list)
            assert product.boxes.tolist() == [box["box"] for box in boxes]
            assert product.labels.tolist() == [box["label"] for box in boxes]
            assert len(product.labels) <= 40


def test_features_are_those_of_the_stored_photo(shop: tuple[Path, ShopSummary]) -> None:
    folder, _ = shop
    lines = (folder / "train.tsv").read_bytes().splitlines()[1:4]
    for line in lines:
        product = parse_row(line)
        with Image.open(folder / "photos" / f"{product.product_id}.jpg") as stored:
            pixels = np.asarray(stored.convert("RGB"))
        assert pixels.shape == (*product.size, 3)
        np.testing.assert_array_equal(region_features(pixels, np.array(product.boxes)), product.features)


def test_answers_are_candidates_of_their_pool(shop: tuple[Path, ShopSummary]) -> None:
    folder, summary = shop
    answers = json.loads((folder / "valid_answer.json").read_text(encoding="utf-8"))
    assert len(answers) == summary.valid_queries
    pools: dict[int | str, set[int | str]] = {}
    for line in (folder / "valid.tsv").read_bytes().splitlines()[1:]:
        row = parse_row(line)
        pools.setdefault(row.query_id, set()).add(row.product_id)
    assert {int(query) for query in answers} == set(pools)
    assert all(set(right) < pools[int(query)] for query, right in answers.items())


def test_labels_file_is_the_competition_s(shop: tuple[Path, ShopSummary], kddcup: Path) -> None:
    folder, _ = shop
    ours = (folder / "multimodal_labels.txt").read_text(encoding="utf-8")
    theirs = (kddcup / "multimodal_labels.txt").read_text(encoding="utf-8")
    assert ours.split() == theirs.split()


def test_the_same_seed_writes_the_same_bytes(shop: tuple[Path, ShopSummary], tmp_path: Path) -> None:
    folder, summary = shop
    seen: list[tuple[int, int]] = []
    again = draw_shop(
        tmp_path / "again", products=60, seed=3, progress=lambda done, of: seen.append((done, of))
    )
    assert again == summary
    assert seen[0] == (1, 60)
    assert seen[-1] == (60, 60)
    ours = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert ours == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for path in ours:
        assert (folder / path).read_bytes() == (tmp_path / "again" / path).read_bytes(), path


def test_planted_flaws_are_counted_in_the_files(tmp_path: Path) -> None:
    summary = draw_shop(tmp_path / "shop", products=60, seed=4, possessive_share=0.1, crowded_share=0.1)
    rows = [parse_row(line) for line in (tmp_path / "shop" / "train.tsv").read_bytes().splitlines()[1:]]
    assert (
        sum(row.query.startswith("'s") for row in rows) == summary.possessive_rows == round(0.1 * len(rows))
    )
    assert sum(len(row.labels) > 40 for row in rows) == summary.crowded_rows
    told = Counter(len(told["boxes"]) > 40 for told in _truth(tmp_path / "shop").values())  # type: ignore[arg-type]  # a list
    assert told[True] == 6
    assert "more than 40 boxes" in str(summary)


def test_too_small_a_shop_is_an_error_that_says_the_minimum(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 60"):
        draw_shop(tmp_path / "shop", products=59)
    with pytest.raises(ValueError, match="possessive_share"):
        draw_shop(tmp_path / "shop", products=60, possessive_share=1.5)
    assert not (tmp_path / "shop").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(DataError, match="holds other files"):
        draw_shop(tmp_path, products=60)
    assert (tmp_path / "letters.txt").read_text(encoding="utf-8") == "dear"


def test_a_contact_sheet_frames_the_right_photos_green(tmp_path: Path) -> None:
    Image.new("RGB", (60, 90), (10, 10, 200)).save(tmp_path / "blue.png")
    photo = tmp_path / "blue.png"
    cells = (
        SheetCell(photo, True, "1. right"),
        SheetCell(photo, False, "2. wrong"),
        SheetCell(None, False, "3. none"),
    )
    contact_sheet(
        [SheetRow("a very long query " * 20, cells), SheetRow("blue", cells[:1])], tmp_path / "sheet.png"
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 1200
        colours = Counter(sheet.convert("RGB").get_flattened_data())
    assert colours[34, 150, 84] > 2 * 4 * 200 * 4  # two frames, four sides, about 260 px, 5 px thick
    assert colours[10, 10, 200] > 3 * 100 * 100


def test_an_empty_contact_sheet_is_still_a_picture(tmp_path: Path) -> None:
    contact_sheet([], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 1200


def test_rows_of_a_run_are_its_first_photos_and_queries_of_all_lengths(tmp_path: Path) -> None:
    (tmp_path / "a.run").write_text(
        "".join(
            f"{query} Q0 {10 * query + place} {place} {9 - place} x\n"
            for query in (1, 2, 3)
            for place in (1, 2, 3)
        ),
        encoding="utf-8",
    )
    (tmp_path / "a.qrels").write_text("1 0 12 1\n2 0 21 1\n3 0 31 0\n", encoding="utf-8")
    texts = {"1": "a long red dress", "2": "dress", "3": "red dress"}
    run, answers = read_run(tmp_path / "a.run"), read_answers(tmp_path / "a.qrels")
    rows = rows_of_run(run, answers, texts, tmp_path, queries=2, depth=2)
    assert [row.title for row in rows] == ["dress", "a long red dress"]
    assert [[cell.right for cell in row.cells] for row in rows] == [[True, False], [False, True]]
    assert rows[1].cells[1] == SheetCell(tmp_path / "12.jpg", True, "2")
    assert len(rows_of_run(run, answers, texts, tmp_path)) == 3
