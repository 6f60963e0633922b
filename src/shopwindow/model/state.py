"""What must be kept of a training so that it can go on after a kill?

Weights, the optimiser's moments, the step, the curve: safetensors, JSON and CSV, no pickle. Each directory
appears whole or not at all. Knows no data.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shopwindow.files import DataError, check_fields, parse_json, read_text, scores_of, whole_directory
from shopwindow.model.checkpoint import load_weights, save_weights, write_tensors
from shopwindow.model.given import WEIGHTS
from shopwindow.model.mining import Contamination

LAST: Final = "last"
BEST: Final = "best"
MARKER: Final = "state.json"
FORMAT: Final = "shopwindow training 2"
OPTIMISER: Final = "optimiser.safetensors"
AVERAGE: Final = "average.safetensors"
MINED: Final = "mined"
CURVES: Final = "curves.csv"
_FIELDS: Final = {
    "identity": dict,
    "step": int,
    "seconds": int | float,
    "best": int | float | None,
    "mined_at": int | None,
    "rows": list,
    "losses": list,
    "false_negatives": list,
}


@dataclass(frozen=True)
class CurveRow:
    """One point: training loss and false negatives a batch are means since the point before, None before the first
    step; what is not measured is None: on the validation set, on held-out pairs of the training, and the estimated
    contamination of the mined table in use."""

    step: int
    epoch: float
    seconds: float
    learning_rate: float
    train_loss: float | None
    false_negatives: float | None
    valid_loss: float | None
    valid_score: float | None
    contamination: float | None = None
    held_out_loss: float | None = None
    held_out_score: float | None = None


@dataclass(frozen=True)
class TrainingState:
    """A training after `step` steps. `folder` is where it lies or will lie.

    `losses` and `false_negatives` are those of the steps since the last point of the curve. `mined_at` is the epoch
    whose table of neighbours lies beside (MINED), `contaminations` what was found of all tables so far.
    """

    step: int
    seconds: float
    best: float | None
    rows: tuple[CurveRow, ...]
    losses: tuple[float, ...]
    folder: Path
    false_negatives: tuple[int, ...] = ()
    mined_at: int | None = None
    contaminations: tuple[Contamination, ...] = ()

    @classmethod
    def read(cls, folder: Path, identity: dict[str, str]) -> TrainingState | None:
        """The state kept in a folder; None when there is none.

        Raises: DataError when it is broken, or of a training with another identity (recipe, data).
        """
        marker = folder / LAST / MARKER
        if not marker.is_file():
            return None
        try:
            values = parse_json(read_text(marker), marker)
            check_fields(values, _FIELDS, marker)
            for key, value in identity.items():
                if values["identity"].get(key) != value:
                    raise DataError(
                        f"this training was begun with another {key}; without --resume it is dropped and begun anew",
                        path=folder,
                        field=key,
                    )
            rows = tuple(CurveRow(**row) for row in values["rows"])
            losses = tuple(map(float, values["losses"]))
            return cls(
                values["step"],
                values["seconds"],
                values["best"],
                rows,
                losses,
                folder,
                tuple(map(int, values["false_negatives"])),
                values["mined_at"],
                tuple(Contamination(**table) for table in values.get("contaminations", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"broken state: {repr(error)[:200]}; without --resume it is dropped and begun anew",
                path=marker,
            ) from error

    def write(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        identity: dict[str, str],
        *,
        average: dict[str, Tensor] | None = None,
        mined: Int64[np.ndarray, "texts neighbours"] | None = None,
    ) -> None:
        """Keeps the state, replacing the one before in one step; the mean of the weights and the mined table too."""
        with whole_directory(self.folder / LAST, marker=MARKER) as written:
            save_weights(model, written / WEIGHTS)
            moments = {
                f"{place}.{name}": tensor.detach().cpu().contiguous()
                for place, values in optimizer.state_dict()["state"].items()
                for name, tensor in values.items()
            }
            write_tensors(moments, written / OPTIMISER)
            if average is not None:
                write_tensors({name: tensor.cpu() for name, tensor in average.items()}, written / AVERAGE)
            if mined is not None:
                write_tensors({MINED: torch.from_numpy(mined).contiguous()}, written / f"{MINED}.safetensors")
            card = {
                "format": FORMAT,
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
                "identity": identity,
                "losses": self.losses,
                "false_negatives": self.false_negatives,
                "mined_at": self.mined_at,
                "contaminations": [dataclasses.asdict(table) for table in self.contaminations],
                "rows": [dataclasses.asdict(row) for row in self.rows],
            }
            (written / MARKER).write_text(json.dumps(card) + "\n", encoding="utf-8")

    def load_model(self, model: nn.Module) -> None:
        """Puts the kept weights into a model of the same sizes."""
        load_weights(model, self.folder / LAST / WEIGHTS)

    def average(self) -> dict[str, Tensor]:
        """The kept mean of the weights. Raises: DataError where it is broken or missing."""
        return _tensors(self.folder / LAST / AVERAGE)

    def mined(self) -> Int64[np.ndarray, "texts neighbours"] | None:
        """The kept table of neighbours; None where none was mined yet."""
        if self.mined_at is None:
            return None
        table: np.ndarray = _tensors(self.folder / LAST / f"{MINED}.safetensors")[MINED].numpy()
        return table

    def load_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Puts the kept moments into an optimiser over the same parameters."""
        moments = _tensors(self.folder / LAST / OPTIMISER)
        state = optimizer.state_dict()
        for name, tensor in moments.items():
            place, moment = name.split(".")
            state["state"].setdefault(int(place), {})[moment] = tensor
        optimizer.load_state_dict(state)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"broken or missing: {error}", path=path) from error
    return tensors


def save_best(folder: Path, model: nn.Module, scores: dict[str, float]) -> None:
    """Keeps the weights chosen so far (`choice.py`) and what they scored, replacing those before in one step."""
    with whole_directory(folder / BEST, marker=MARKER) as written:
        save_weights(model, written / WEIGHTS)
        (written / MARKER).write_text(
            json.dumps({"format": FORMAT, "scores": scores}) + "\n", encoding="utf-8"
        )


def read_best(folder: Path, model: nn.Module) -> dict[str, float]:
    """Puts the chosen weights into the model; gives what they scored."""
    load_weights(model, folder / BEST / WEIGHTS)
    marker = folder / BEST / MARKER
    return scores_of(parse_json(read_text(marker), marker), marker)


def write_curves(rows: Sequence[CurveRow], folder: Path, *, kept: int) -> None:
    """Writes `curves.csv` and `curves.png` into a folder; the picture marks the step whose weights are `kept`."""
    with (folder / CURVES).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(CurveRow))
        writer.writerows(dataclasses.astuple(row) for row in rows)
    _draw(rows, folder / "curves.png", kept)


def _draw(rows: Sequence[CurveRow], path: Path, kept: int) -> None:
    from matplotlib.figure import Figure  # slow to import, and needed once at the end

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    losses = figure.subplots()
    trained = [(row.step, row.train_loss) for row in rows if row.train_loss is not None]
    losses.plot(
        [step for step, _ in trained], [loss for _, loss in trained], color="#8aa1b8", label="training loss"
    )
    losses.set_xlabel("step")
    losses.set_ylabel("loss")
    scores = losses.twinx()
    for name, style in (("valid", "-"), ("held_out", "--")):
        said = name.replace("_", "-")
        for axes, value, colour, label in (
            (losses, "loss", "#3f6fa3", f"{said} loss"),
            (scores, "score", "#c2571a", f"{said} nDCG@5"),
        ):
            points = [(row.step, getattr(row, f"{name}_{value}")) for row in rows]
            points = [point for point in points if point[1] is not None]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, marker="o", ms=3, label=label)
    losses.set_ylim(bottom=0)
    scores.set_ylabel("nDCG@5")
    scores.set_ylim(0, 1)
    losses.axvline(kept, color="#777777", lw=1, ls=":", label="kept")
    handles = [*losses.get_legend_handles_labels()[0], *scores.get_legend_handles_labels()[0]]
    losses.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=4, frameon=False)
    for axes in (losses, scores):
        axes.spines["top"].set_visible(False)
    figure.savefig(path, dpi=120)
