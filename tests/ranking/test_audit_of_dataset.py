"""The audit of a prepared set: what its photos, boxes, labels, sizes and training text give away."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.competition import Row
from shopwindow.data.prepare import prepare
from tests.data.rows import make_line, write_tsv

QUERIES, SIZE, FEATURES = 50, 8, 4


def product_of(product_id: int, *, feature: float, height: int) -> Row:
    generator = np.random.default_rng(product_id)
    boxes = np.array([[0, 0, 10, 10], [5, 5, height - 1, 40]], np.float32)
    features = generator.random((2, FEATURES)).astype(np.float32)
    features[:, 1] += feature
    return Row(product_id, 0, "", (height, 50), boxes, features, np.array([28, product_id % 5]))


def made(folder: Path, *, leak: str) -> None:
    """Pools of which one product, in a random place, is right; `leak` alone tells which."""
    generator = np.random.default_rng(0)
    lines: list[bytes] = []
    train: list[bytes] = []
    answers = {}
    for query in range(QUERIES):
        right = 1000 + query * SIZE + int(generator.integers(SIZE))
        answers[str(query)] = [right]
        for product_id in generator.permutation(np.arange(SIZE) + 1000 + query * SIZE).tolist():
            told = product_id == right
            feature, height = 3.0 * (told and leak == "photo"), 60 + 30 * (told and leak == "size")
            product = product_of(product_id, feature=feature, height=height)
            lines.append(make_line(product, f"word{query} bag", query))
            text = f"word{query} lamp" if told and leak == "text" else f"other{product_id % 7} lamp"
            train.append(make_line(product, text, 10_000 + len(train)))
    (folder / "answers.json").write_text(json.dumps(answers))
    for name, rows in (("valid", lines), ("train", train)):
        prepare([write_tsv(folder / f"{name}.tsv", rows)], folder / name, feature_size=FEATURES)


@pytest.mark.parametrize(
    ("leak", "named"),
    [
        ("none", []),
        ("photo", ["query-blind photos"]),
        ("size", ["boxes, labels, sizes"]),
        ("text", ["image-blind (text only)"]),
    ],
)
def test_what_the_set_gives_away_is_found_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    leak: str,
    named: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, leak=leak)
    given = ["--pools", "valid.tsv", "--answers", "answers.json", "--dataset", "valid", "--train", "train"]
    main(["audit", *given, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["leaks"] == named
    assert len(found["lines"]) == 13


def test_report_shows_the_words_of_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, leak="none")
    pairs = [(query, 1000 + query * SIZE + place) for query in range(QUERIES) for place in range(SIZE)]
    Path("a.tsv").write_text("".join(f"{query}\t{product}\t{product % 5}\n" for query, product in pairs))
    main(["report", "a.tsv", "--answers", "answers.json", "--dataset", "valid", "--out", "r.html"])
    text = Path("r.html").read_text()
    assert re.search(r"word(\d+) bag \(query \1\)", text)
    assert "bag (n = " not in text  # one last word for all: no group to compare
