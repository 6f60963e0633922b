"""`shopwindow rank --explain` writes the run and, whole or not at all, which word looks at which box."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from shopwindow.cli import main
from shopwindow.model.bundle import Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from tests.model.conftest import TinyShop
from tests.model.parts import LATE_PARTS


@pytest.fixture(scope="module")
def late(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = load_recipe("late", {"parts": LATE_PARTS, "text.vocabulary": 200, "late.width": 16})
    torch.manual_seed(5)
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    folder = tmp_path_factory.mktemp("late")
    Bundle(model, tokenizer).save_into(folder)
    return folder


def words_of(bundle: Path, tiny_shop: TinyShop, folder: Path, *more: str) -> list[str]:
    return ["rank", str(bundle), str(tiny_shop.valid.path), "--out", str(folder / "run.txt"), *more]


def rank(bundle: Path, tiny_shop: TinyShop, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The verb as a shell runs it."""
    command = [sys.executable, "-c", "from shopwindow.cli import main; main()"]
    command += words_of(bundle, tiny_shop, folder, *more)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(
    bundle: Path, tiny_shop: TinyShop, folder: Path, *more: str, capsys: pytest.CaptureFixture[str]
) -> str:
    """The one line that says why."""
    with pytest.raises(SystemExit) as stopped:
        main(words_of(bundle, tiny_shop, folder, *more))
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return str(line)


def test_run_is_explained_and_a_failing_explanation_leaves_the_older_one(
    late: Path, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    explain = ["--explain", str(tmp_path / "why"), "--explain-queries", "3", "--explain-top", "2"]
    done = rank(late, tiny_shop, tmp_path, *explain)
    assert done.returncode == 0, done.stderr
    run = [line.split() for line in (tmp_path / "run.txt").read_text().splitlines()]
    best = [row for row in run if int(row[3]) <= 2 and int(row[0]) < 53]
    lines = [json.loads(line) for line in (tmp_path / "why" / "explanations.jsonl").read_text().splitlines()]
    assert [[str(line["query_id"]), str(line["product_id"])] for line in lines] == [
        [row[0], row[2]] for row in best
    ]
    assert [line["rank"] for line in lines] == [1, 2] * 3
    for line, row in zip(lines, best, strict=True):
        assert line["score"] == pytest.approx(float(row[4]), abs=1e-5)
        assert line["score"] == pytest.approx(line["vector_score"] + line["late_score"], abs=1e-9)
        assert line["method"] == "late interaction"
        for word, fits, weights in zip(line["word_weights"], line["fits"], line["weights"], strict=True):
            assert [word * fit for fit in fits] == pytest.approx(weights, abs=1e-9)
        picture = tmp_path / "why" / f"{line['query_id']}-{line['rank']}-{line['product_id']}.png"
        with Image.open(picture) as opened:
            opened.verify()
    before = sorted((path.name, path.stat().st_ino) for path in (tmp_path / "why").iterdir())
    assert len(before) == 6 + 2

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / f"{lines[-1]['product_id']}.jpg").write_bytes(b"broken")
    failed = rank(late, tiny_shop, tmp_path, *explain, "--photos", str(tmp_path / "photos"))
    assert failed.returncode == 2
    assert "cannot be read as a photo" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
    assert sorted((path.name, path.stat().st_ino) for path in (tmp_path / "why").iterdir()) == before


def test_foreign_directory_is_refused_before_the_work(
    late: Path, tiny_shop: TinyShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    more = ["--explain", str(tmp_path / "mine")]
    assert "holds other files" in refused(late, tiny_shop, tmp_path, *more, capsys=capsys)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    assert not (tmp_path / "run.txt").exists()


def test_photos_that_are_not_there_and_without_explanations_are_refused(
    late: Path, tiny_shop: TinyShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = ["--photos", str(tmp_path / "nowhere")]
    assert "--photos: goes with --explain" in refused(late, tiny_shop, tmp_path, *photos, capsys=capsys)
    more = ["--explain", str(tmp_path / "why"), *photos]
    assert "no such folder" in refused(late, tiny_shop, tmp_path, *more, capsys=capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--explain-queries", "--explain-top"])
@pytest.mark.parametrize("number", ["0", "-3"])
def test_numbers_below_1_are_refused_before_the_work(
    late: Path,
    tiny_shop: TinyShop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    number: str,
) -> None:
    more = ["--explain", str(tmp_path / "why"), f"{option}={number}"]
    said = refused(late, tiny_shop, tmp_path, *more, capsys=capsys)
    assert option in said
    assert f"{number}, at least 1" in said
    assert list(tmp_path.iterdir()) == []
