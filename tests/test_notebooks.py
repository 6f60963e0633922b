"""Do the notebooks run from the first to the last, and are they stored clean?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from shopwindow.ranking.runs import read_run
from shopwindow.ranking.submission import check_submission

NOTEBOOKS: Final = Path(__file__).parents[1] / "notebooks"
NAMES: Final = ("01_prepare.ipynb", "02_train.ipynb", "03_infer.ipynb")
FIGURES: Final = {
    "01_prepare.ipynb": {"numbers", "labels", "photos"},
    "02_train.ipynb": {"curves"},
    "03_infer.ipynb": {"smoothing", "sheet"},
}
SECONDS_FOR_A_CELL: Final = 240


def test_there_are_no_other_notebooks() -> None:
    assert sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_valid_and_without_what_a_run_leaves(name: str) -> None:
    text = (NOTEBOOKS / name).read_text(encoding="utf-8")
    content = json.loads(text)
    nbformat.validate(content)
    assert text == json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    for cell in content["cells"]:
        assert cell["metadata"] == {}
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
def test_the_notebooks_run_one_after_the_other_on_a_small_shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = _describe_this_interpreter(tmp_path / "jupyter", monkeypatch)
    work = tmp_path / "work"
    monkeypatch.setenv("SHOPWINDOW_NOTEBOOK_WORK", str(work))
    monkeypatch.setenv("SHOPWINDOW_NOTEBOOK_PRODUCTS", "120")
    monkeypatch.setenv("SHOPWINDOW_NOTEBOOK_EPOCHS", "2")
    monkeypatch.delenv("SHOPWINDOW_NOTEBOOK_FILES", raising=False)
    monkeypatch.delenv("SHOPWINDOW_NOTEBOOK_RECIPE", raising=False)
    for name in NAMES:
        done = _run(name, kernel, tmp_path)
        assert _figures(done) == FIGURES[name]
        assert _complaints(done) == []
    run = read_run(work / "test.run")
    assert check_submission(work / "submission.csv") == len(run.queries)
    # smoothing changes scores, not what is ranked
    smoothed = read_run(work / "test-smoothed.run")
    assert smoothed.queries.tolist() == run.queries.tolist()
    assert sorted(smoothed.product_ids) == sorted(run.product_ids)
    assert smoothed.scores.tolist() != run.scores.tolist()


def _describe_this_interpreter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kernel that is the running interpreter, known to this test alone."""
    name = "this-interpreter"
    spec = folder / "kernels" / name
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.joinpath("kernel.json").write_text(
        json.dumps({"argv": command, "display_name": name, "language": "python"}), encoding="utf-8"
    )
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    return name


def _run(name: str, kernel: str, folder: Path) -> NotebookNode:
    """The notebook with its outputs, every cell executed in a fresh kernel."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, kernel_name=kernel, timeout=SECONDS_FOR_A_CELL, resources=resources)
    return client.execute()


def _figures(notebook: NotebookNode) -> set[str]:
    """The ids of the cells that show a picture."""
    return {
        cell.id
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }


def _complaints(notebook: NotebookNode) -> list[str]:
    """What the cells wrote to standard error: warnings of libraries, which no reader wants to see."""
    return [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]
