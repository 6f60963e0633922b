"""Do the notebooks run from the first to the last, and are they stored with the outputs of such a run?

`python -m tests.test_notebooks` runs them, or those that are named, with their own settings and stores them anew.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

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
def test_a_notebook_is_stored_valid_and_with_the_outputs_of_one_run(name: str) -> None:
    text = (NOTEBOOKS / name).read_text(encoding="utf-8")
    content = json.loads(text)
    nbformat.validate(content)
    assert text == as_stored(content)
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert _figures(_stored(name)) == FIGURES[name]
    assert _complaints(_stored(name)) == []


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
        assert _shapes(done) == _shapes(_stored(name))
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


def _run(
    name: str, kernel: str, folder: Path, *, seconds_for_a_cell: int = SECONDS_FOR_A_CELL
) -> NotebookNode:
    """The notebook with its outputs, every cell executed in a fresh kernel."""
    notebook = _stored(name)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, kernel_name=kernel, timeout=seconds_for_a_cell, resources=resources)
    return client.execute()


def as_stored(content: dict[str, Any]) -> str:
    """A notebook as its file: no metadata of a run, no name of a display."""
    for cell in content["cells"]:
        cell["metadata"] = {}
        for output in cell.get("outputs", []):
            output.pop("transient", None)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _stored(name: str) -> NotebookNode:
    stored: NotebookNode = nbformat.read(NOTEBOOKS / name, as_version=4)  # type: ignore[no-untyped-call]
    return stored


def _shapes(notebook: NotebookNode) -> dict[str, list[list[str]]]:
    """What each cell shows: the kinds of its outputs, whatever the figures are."""
    return {
        cell.id: [sorted(output.get("data", {output.output_type: 0})) for output in cell.get("outputs", [])]
        for cell in notebook.cells
    }


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


def _in_few_colours(png: str) -> str:
    """The picture in 96 colours, in base64: a third of its bytes."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        image.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def main() -> None:
    """Runs the notebooks in their folder, and stores each with what it showed."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        kernel = _describe_this_interpreter(Path(folder), patch)
        for name in sys.argv[1:] or NAMES:
            done = _run(name, kernel, NOTEBOOKS, seconds_for_a_cell=4 * SECONDS_FOR_A_CELL)
            for kept in ("kernelspec", "language_info"):
                done.metadata[kept] = _stored(name).metadata[kept]
            for data in (output.get("data", {}) for cell in done.cells for output in cell.get("outputs", [])):
                if "image/png" in data:
                    data["image/png"] = _in_few_colours(data["image/png"])
            (NOTEBOOKS / name).write_text(as_stored(json.loads(json.dumps(done))), encoding="utf-8")


if __name__ == "__main__":
    main()
