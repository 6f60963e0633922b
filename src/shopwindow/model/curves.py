"""How did loss and score go over the steps of a training? As CSV and as a picture."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shopwindow.files import DataError, read_text


@dataclass(frozen=True)
class CurveRow:
    """One point: training loss and false negatives a batch are means since the point before, None before the first
    step; valid values are None where not measured, and so is the estimated contamination of the mined table in use."""

    step: int
    epoch: float
    seconds: float
    learning_rate: float
    train_loss: float | None
    false_negatives: float | None
    valid_loss: float | None
    valid_score: float | None
    contamination: float | None = None


def write_curves(rows: Sequence[CurveRow], folder: Path) -> None:
    """Writes `curves.csv` and `curves.png` into a folder."""
    with (folder / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(CurveRow))
        writer.writerows(dataclasses.astuple(row) for row in rows)
    _draw(rows, folder / "curves.png")


def read_curves(folder: str | Path) -> list[CurveRow]:
    """The points that `write_curves` wrote.

    Raises: DataError where `curves.csv` is missing or has other columns.
    """
    path = Path(folder) / "curves.csv"
    names = [field.name for field in dataclasses.fields(CurveRow)]
    rows = list(csv.reader(read_text(path).splitlines()))
    if not rows or rows[0] not in (names, names[:-1]):  # older ones have no contamination
        raise DataError(f"other columns than {', '.join(names)}", path=path, line=1)
    try:
        return [_row(cells) for cells in rows[1:]]
    except (ValueError, IndexError) as error:
        raise DataError(f"not a curve: {error}", path=path) from error


def _row(cells: list[str]) -> CurveRow:
    epoch, seconds, rate = (float(cell) for cell in cells[1:4])
    means = (float(cell) if cell else None for cell in cells[4:9])
    return CurveRow(int(cells[0]), epoch, seconds, rate, *means)


def _draw(rows: Sequence[CurveRow], path: Path) -> None:
    from matplotlib.figure import Figure  # slow to import, and needed once at the end

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    losses = figure.subplots()
    trained = [(row.step, row.train_loss) for row in rows if row.train_loss is not None]
    losses.plot(
        [step for step, _ in trained], [loss for _, loss in trained], color="#8aa1b8", label="training loss"
    )
    valid = [
        (row.step, row.valid_loss, row.valid_score)
        for row in rows
        if row.valid_loss is not None and row.valid_score is not None
    ]
    steps = [step for step, _, _ in valid]
    losses.plot(steps, [loss for _, loss, _ in valid], color="#3f6fa3", marker="o", ms=3, label="valid loss")
    losses.set_xlabel("step")
    losses.set_ylabel("loss")
    losses.set_ylim(bottom=0)
    scores = losses.twinx()
    scores.plot(
        steps, [score for _, _, score in valid], color="#c2571a", marker="o", ms=3, label="valid nDCG@5"
    )
    scores.set_ylabel("nDCG@5")
    scores.set_ylim(0, 1)
    handles = [*losses.get_legend_handles_labels()[0], *scores.get_legend_handles_labels()[0]]
    losses.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3, frameon=False)
    for axes in (losses, scores):
        axes.spines["top"].set_visible(False)
    figure.savefig(path, dpi=120)
