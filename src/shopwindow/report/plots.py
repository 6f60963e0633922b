"""The pictures of measuring: intervals, differences, two runs beside each other, bars. Numbers in, figures out.

matplotlib is imported only when something is drawn. As SVG a figure takes its ink from the page around it, so
that one drawing reads on light and dark; as PNG it stands on white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float64

from shopwindow.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK: Final = "#2b2d33"
_FAINT: Final = "#8a8d96"
BLUE: Final = "#3f7fbf"
RED: Final = "#d1495b"
_WIDTH: Final = 4.4
_LONGEST_NAME: Final = 28


def forest(
    names: Sequence[str],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    label: str,
    reference: float | None = None,
    marked: Sequence[bool] | None = None,
) -> Figure:
    """One line per name, the first on top: a point and its interval; `marked` ones red, `reference` a dashed line."""
    figure, axes = _figure(0.75 + 0.27 * len(names))
    for row, (mean, low, high) in enumerate(zip(means, lows, highs, strict=True)):
        colour = RED if marked is not None and marked[row] else BLUE
        axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([mean], [row], "o", color=colour, markersize=5)
    if reference is not None:
        axes.axvline(reference, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="x", color=_FAINT, alpha=0.25, linewidth=0.6)
    return figure


def bars(names: Sequence[str], values: Sequence[float], *, label: str, notes: Sequence[str]) -> Figure:
    """One horizontal bar per name, the first on top, each with its note at the end."""
    figure, axes = _figure(0.75 + 0.27 * len(names))
    known = [0.0 if np.isnan(value) else value for value in values]
    axes.barh(range(len(names)), known, color=BLUE, height=0.62)
    for row, (value, note) in enumerate(zip(known, notes, strict=True)):
        axes.annotate(
            note, (value, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=_INK
        )
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max([*known, 1e-9]) * 1.3)
    axes.set_xlabel(label)
    return figure


def two_runs(
    first: Float64[np.ndarray, "queries"],
    second: Float64[np.ndarray, "queries"],
    *,
    names: tuple[str, str],
    measure: str,
) -> Figure:
    """Every query as a point; queries with equal values share a point, which grows with their number."""
    figure, axes = _figure(_WIDTH * 0.8)
    cells, counts = np.unique(np.stack([second, first], axis=1).round(3), axis=0, return_counts=True)
    above = cells[:, 1] >= cells[:, 0]
    end = max(1.0, float(cells.max()))
    axes.plot([0, end], [0, end], color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    for side, colour in ((above, BLUE), (~above, RED)):
        area = 12 * np.sqrt(counts[side])
        axes.scatter(
            cells[side, 0], cells[side, 1], s=area, color=colour, alpha=0.6, linewidths=0, clip_on=False
        )
    axes.set_xlim(-0.03 * end, 1.03 * end)
    axes.set_ylim(-0.03 * end, 1.03 * end)
    axes.set_aspect("equal")
    axes.set_xlabel(f"{measure} of {_short(names[1])}")
    axes.set_ylabel(f"{measure} of {_short(names[0])}")
    return figure


def as_svg(figure: Figure, *, title: str) -> str:
    """The figure as an SVG element for a page: fluid width, the page's ink and font, `title` for who cannot see it."""
    text = _saved(figure, "svg").decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text.replace(_INK, "currentColor"))
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]  # always there
    opening = f'<svg viewBox="0 0 {width} {height}" style="max-width:{1.7 * float(width):.0f}px" role="img" xmlns="http://www.w3.org/2000/svg"'
    opening += ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    return f"{opening}<title>{_escaped(title)}</title>{text[text.index('>') + 1 :]}"


def write_figure(figure: Figure, folder: Path, name: str) -> None:
    """Writes the figure as `name.svg` and `name.png`."""
    for ending in ("svg", "png"):
        with whole_file(folder / f"{name}.{ending}") as partial:
            partial.write_bytes(_saved(figure, ending))


def _saved(figure: Figure, ending: str) -> bytes:
    import matplotlib as mpl

    stored = io.BytesIO()
    for text in figure.findobj(mpl.text.Text):
        text.set_parse_math(False)  # a name may hold two `$`
    # text stays text, and the same figure gives the same bytes
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "shopwindow", "savefig.dpi": 160}):
        if ending == "svg":
            figure.savefig(
                stored, format=ending, bbox_inches="tight", metadata={"Date": None}, transparent=True
            )
        else:
            figure.savefig(stored, format=ending, bbox_inches="tight", facecolor="white")
    return stored.getvalue()


def _figure(height: float) -> tuple[Figure, Axes]:
    """A figure as wide as a phone shows without shrinking its text; no state outside it is touched."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = mpl.rc_context(
        {
            "text.color": _INK,
            "text.parse_math": False,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    with style:
        figure = Figure(figsize=(_WIDTH, height))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.tick_params(length=0)
    return figure, axes


def _short(name: str) -> str:
    """The name, its middle left out where it is long."""
    if len(name) > _LONGEST_NAME:
        half = _LONGEST_NAME // 2
        name = f"{name[:half]}…{name[-half:]}"
    return name


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
