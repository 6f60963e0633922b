"""The inputs on which other people's public bug reports fell once. They lie outside of the project."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.search.engine import SearchEngine
from tests.conftest import SHARED
from tests.search.conftest import Shop


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the folder of a case."""
    folder = SHARED / "cases" / request.param
    if not folder.is_dir():
        pytest.skip(f"no case at {folder} (set SHOPWINDOW_SHARED)")
    return Path(shutil.copytree(folder, tmp_path / "case"))


def ended(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that ends with status 2: one line."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    return told


@pytest.mark.parametrize("case", ["codes-as-numbers"], indirect=True)
def test_codes_find_their_own_product_only(case: Path, own_index: Path, tmp_path: Path) -> None:
    with (case / "sku.csv").open() as file:
        rows = list(csv.reader(file))
    table = tmp_path / "sku.csv"
    table.write_text(
        "\n".join(",".join([one, *row[1:]]) for one, row in zip(("product_id", "7", "8"), rows, strict=True))
    )
    main(["index", "update", str(own_index), "--columns", str(table)])
    engine = SearchEngine.open(own_index)
    from shopwindow.search.conditions import parse_conditions
    from shopwindow.search.hits import Filter

    for asked in ("sku=00123", "ean=9007199254740993"):
        hits = engine.search("red bag", where=Filter(conditions=parse_conditions([asked])))
        assert [hit.product_id for hit in hits] == [7]


@pytest.mark.parametrize("case", ["csv-field-limit"], indirect=True)
def test_cells_have_any_length(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, answers = str(case / "run.csv"), str(case / "answers.json")
    main(["evaluate", run, answers])
    main(["audit", "--pools", run, "--answers", answers])
    assert "nDCG@5" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["dollar-run-name"], indirect=True)
def test_a_run_may_have_dollars_in_its_name(case: Path) -> None:
    run = case / "cost$5_$10.run"
    (case / "cost_dollars.run").rename(run)
    words = [
        str(run),
        str(case / "b.run"),
        "--answers",
        str(case / "answers.json"),
        "--out",
        str(case / "rep.html"),
    ]
    main(["report", *words])
    assert "cost$5_$10" in (case / "rep.html").read_text()


@pytest.mark.parametrize("case", ["ids-partly-other"], indirect=True)
def test_ids_that_changed_their_spelling_are_told(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half, plain, answers = (str(case / name) for name in ("half_float.csv", "plain.csv", "answers.json"))
    for words in (
        ["evaluate", half, answers],
        ["evaluate", plain, answers, "--against", half],
        ["fuse", plain, half, "--out", str(case / "fused.run")],
        ["evaluate", str(case / "both.run"), answers],
    ):
        assert "among integers: an id that was changed" in ended(capsys, *words)
    main(["evaluate", plain, answers])


@pytest.mark.parametrize("case", ["photos-uppercase"], indirect=True)
def test_photos_are_found_by_endings_in_capitals_and_counted(
    case: Path, shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("some", "none"):
        (case / name).mkdir()
    shutil.copy(shop.photos / "7.jpg", case / "some" / "7.JPG")
    for name, told in (("some", "1 of 300 products"), ("none", "0 of 300 products")):
        out = tmp_path / f"index-{name}"
        main(
            [
                "index",
                "make",
                str(shop.bundle),
                str(shop.dataset),
                "--photos",
                str(case / name),
                "--out",
                str(out),
            ]
        )
        said = capsys.readouterr()
        assert told in " ".join((said.out + said.err).split())


@pytest.mark.parametrize("case", ["prepare-no-main-guard"], indirect=True)
def test_several_processes_without_a_main_guard_are_told(case: Path) -> None:
    (case / "valid.tsv").write_text("")
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=case, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert run.returncode
    assert 'under `if __name__ == "__main__":`' in run.stderr.splitlines()[-1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("case", ["stdout-full"], indirect=True)
def test_a_full_disk_behind_standard_output_is_told(case: Path, shop: Shop) -> None:
    (case / "a.run").write_text("1 Q0 7 1 0.5 x\n")
    (case / "a.json").write_text('{"1": [7]}')
    for words in (
        ["evaluate", "a.run", "a.json"],
        ["rank", str(shop.bundle), str(shop.dataset), "--out", "-"],
    ):
        with Path("/dev/full").open("w") as full:
            run = subprocess.run(
                [sys.executable, "-m", "shopwindow", *words], cwd=case,
                env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False,
            )  # fmt: skip
        assert run.returncode == 2
        assert "standard output: cannot be written: No space left on device" in run.stderr.splitlines()[-1]
        assert "Traceback" not in run.stderr
