"""A shop's features and clicks become a dataset: all products, the pairs of training, and what is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.clicks import BIAS
from shopwindow.data.dataset import Dataset
from shopwindow.data.features import Features
from shopwindow.data.shop import NOTHING_SAYS, TITLES_SAY, prepare_shop, title_phrases
from shopwindow.files import DataError
from tests.data.small_features import BACKBONE, SIZE, write_features

IDS = ["SKU-2", "SKU-10", "007", "SKU-1"]
TITLES = ["Red Mug", "", "Oak Table", "White Oak Table"]
COLUMNS: dict[str, list[Any]] = {"price": [1.5, None, 20.0, 3.0], "title": ["a", "b", None, "d"]}


@pytest.fixture
def features(tmp_path: Path) -> Features:
    return Features(write_features(tmp_path / "features", IDS, titles=TITLES, columns=COLUMNS))


def click_log(tmp_path: Path) -> Path:
    """Ten days, a click on SKU-1 and one on another each; a stranger every day."""
    path = tmp_path / "clicks.csv"
    rows = []
    for day in range(10):
        date = f"2026-06-{day + 1:02}"
        other = IDS[day % 3]
        rows += [f"{date},oak table,SKU-1", f"{date},thing {day % 3},{other}", f"{date},oak table,gone"]
    path.write_text("date,query,sku\n" + "\n".join(rows) + "\n")
    return path


def test_a_dataset_holds_the_catalogue_the_pairs_and_what_is_held_out(
    features: Features, tmp_path: Path
) -> None:
    report = prepare_shop(features, click_log(tmp_path), tmp_path / "ds")
    dataset = Dataset(tmp_path / "ds")
    assert dataset.product_ids.tolist() == IDS
    assert (dataset.feature_size, dataset.label_count) == (SIZE, 2)
    assert dataset.titles == TITLES
    assert dataset.photo_sources == [(f"/photos/{one}.jpg",) for one in IDS]
    assert dataset.columns is not None
    assert dataset.columns.to_pydict() == COLUMNS
    assert dataset.backbone == BACKBONE
    assert dataset.query_texts == ["oak table", "thing 0", "thing 1", "thing 2"]
    named = {
        (dataset.query_texts[query], IDS[product]): weight
        for query, product, weight in zip(
            dataset.pair_queries, dataset.pair_products, dataset.pair_weights.tolist(), strict=True
        )
    }
    assert named == {
        ("oak table", "SKU-1"): 8,
        ("thing 0", "SKU-2"): 3,
        ("thing 1", "SKU-10"): 3,
        ("thing 2", "007"): 2,
    }
    assert dataset.pair_training.all()
    everything = np.arange(4)
    ours, theirs = dataset.regions(everything, boxes=True), features.regions(everything)
    for name in ("counts", "features", "boxes", "photo_sizes", "labels", "photos"):
        assert (getattr(ours, name) == getattr(theirs, name)).all(), name
    for name, line in [("valid", "thing 2,007,1"), ("test", "thing 0,SKU-2,1")]:
        held_out = dataset.held_out(name)
        assert held_out is not None
        assert held_out.read_text() == f"query,id,relevant\noak table,SKU-1,1\n{line}\n"
    assert dataset.held_out("judgements") is None
    assert dict(report.counts) == {
        "rows read": 30,
        "rows without a query: dropped": 0,
        "rows of a product that the catalogue lacks: dropped": 10,
        "rows without a click: dropped": 0,
        "rows of a bot (one session or query has most clicks): dropped": 0,
        "rows kept": 20,
        "training: pairs": 4,
        "training: queries": 4,
        "training: products": 4,
        "products in the catalogue": 4,
        "valid: pairs": 2,
        "valid: queries": 2,
        "test: pairs": 2,
        "test: queries": 2,
    }
    assert report.notes == [
        "columns of the clicks: query is 'query', id is 'sku', date is 'date'",
        "held out by date: the last 1 of 10 days for the test, the 1 days before for validation",
        *(
            f"{name}: of its 2 pairs, 2 (100%) have a query that training has too, 2 (100%) such a product, "
            "2 (100%) are pairs of training"
            for name in ("valid", "test")
        ),
        BIAS,
    ]
    assert dataset.manifest["report"] == report.to_json()


def test_without_clicks_titles_are_learned_from(features: Features, tmp_path: Path) -> None:
    report = prepare_shop(features, None, tmp_path / "ds")
    dataset = Dataset(tmp_path / "ds")
    texts = [dataset.query_texts[query] for query in dataset.pair_queries.tolist()]
    pairs = set(zip(texts, dataset.pair_products.tolist(), strict=True))
    for name in ("valid", "test"):
        path = dataset.held_out(name)
        assert path is not None
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        pairs |= {(query, IDS.index(one)) for query, one, _ in rows}
    assert pairs == {
        *[("red mug", 0), ("mug", 0), ("oak table", 2), ("table", 2)],
        *[("white oak table", 3), ("oak table", 3), ("table", 3)],
    }
    assert not dataset.has_weights
    assert TITLES_SAY in report.notes


def test_phrases_of_titles() -> None:
    assert title_phrases("Ceramic Mug with Lid 300ml") == ["ceramic mug with lid 300ml", "ceramic mug", "mug"]
    assert title_phrases("Mug") == ["mug"]
    assert title_phrases("") == []


def test_equal_clicks_in_any_order_are_one_dataset(features: Features, tmp_path: Path) -> None:
    path = click_log(tmp_path)
    prepare_shop(features, path, tmp_path / "one")
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    prepare_shop(features, path, tmp_path / "other")
    files = sorted(one.name for one in (tmp_path / "one").iterdir())
    assert files == sorted(one.name for one in (tmp_path / "other").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name
    path.write_text("\n".join([header, *rows[:-3]]))
    prepare_shop(features, path, tmp_path / "third")
    assert Dataset(tmp_path / "third").content_hash != Dataset(tmp_path / "one").content_hash


def test_judgements_are_checked_and_kept(features: Features, tmp_path: Path) -> None:
    judged = tmp_path / "judged.csv"
    judged.write_text("query,sku,relevant\nmug,SKU-2,2\nmug,SKU-1,0.5\nmug,gone,1\n")
    report = prepare_shop(features, click_log(tmp_path), tmp_path / "ds", judgements=judged)
    path = Dataset(tmp_path / "ds").held_out("judgements")
    assert path is not None
    assert path.read_text() == "query,id,relevant\nmug,SKU-2,2\nmug,SKU-1,0.5\n"
    counts = dict(report.counts)
    assert counts["judgements: of products that the catalogue lacks"] == 1
    judged.write_text("query,sku\nmug,gone\n")
    with pytest.raises(DataError, match="none of its products is in the catalogue"):
        prepare_shop(features, click_log(tmp_path), tmp_path / "ds", judgements=judged)


def test_what_cannot_be_learned_from_is_an_error(tmp_path: Path) -> None:
    features = Features(write_features(tmp_path / "features", IDS))
    with pytest.raises(DataError, match="no pair is left"):
        prepare_shop(features, click_log(tmp_path), tmp_path / "ds", least_clicks=99)
    assert not (tmp_path / "ds").exists()


def test_without_clicks_and_titles_there_are_products_and_no_pairs(tmp_path: Path) -> None:
    features = Features(write_features(tmp_path / "features", IDS))
    report = prepare_shop(features, None, tmp_path / "ds")
    dataset = Dataset(tmp_path / "ds")
    assert dataset.product_ids.tolist() == IDS
    assert len(dataset.pair_products) == len(dataset.query_texts) == 0
    assert report.notes[-1] == NOTHING_SAYS


def test_the_verb_prints_what_became_of_the_clicks(
    features: Features, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "--products", str(features.path), "--clicks", str(click_log(tmp_path))]
    main([*command, "--out", str(tmp_path / "ds"), "--click-columns", "date=", "--held-out", "0.3"])
    lines = capsys.readouterr().out.splitlines()
    assert "training: pairs 2" in [" ".join(line.split()) for line in lines]
    assert "columns of the clicks: query is 'query', id is 'sku'" in lines
    assert "held out by query: 1 of 4 queries for validation, as many for the test" in lines
    assert lines[-2:] == [BIAS, f"dataset: {tmp_path / 'ds'}"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "competition files, or --products of a shop, are wanted"),
        (["a.tsv", "--clicks", "c.csv"], "--clicks: goes with --products"),
        (["a.tsv", "--products", "f"], "--products: goes without competition files"),
        (["--products", "f", "--weights", "w"], "--weights: goes with competition files"),
        (
            ["--products", "f", "--keep", "possessive"],
            "--keep: no rule 'possessive' of clicks; there are bots, outliers",
        ),
        (["--products", "f", "--eta", "-1"], "--eta: -1.0, at least 0 is wanted"),
        (["--products", "f"], "f: no such features"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", *options, "--out", str(tmp_path / "ds")])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_held_out_file_that_changed_is_told(features: Features, tmp_path: Path) -> None:
    prepare_shop(features, click_log(tmp_path), tmp_path / "ds")
    (tmp_path / "ds" / "valid.csv").write_text("query,id,relevant\n")
    with pytest.raises(DataError, match=r"valid\.csv: is not the file"):
        Dataset(tmp_path / "ds").held_out("valid")
    (tmp_path / "ds" / "catalogue.arrow").write_bytes(b"")
    with pytest.raises(DataError, match=r"catalogue\.arrow: broken or missing"):
        Dataset(tmp_path / "ds").titles  # noqa: B018 - reading it is the test
