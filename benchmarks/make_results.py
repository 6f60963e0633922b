"""Puts the latest figures of each question into `docs/results.md`, between the two marker comments.

The rest of that page is written by hand and stays as it is.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

from record import RESULTS, ROOT, shown

PAGE: Final = ROOT / "docs" / "results.md"
PICTURE: Final = ROOT / "docs" / "images" / "ratios.png"
RATIO: Final = re.compile(r"\b(share(?! on\b)|times)\b")
"""In the name of every ratio that the scripts record; a share on something is a figure of its own."""
FASTER: Final = "times faster"
BEGIN: Final = "<!-- benchmarks:begin -->"
END: Final = "<!-- benchmarks:end -->"


def main() -> None:
    """Renews the page."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        sys.exit(f"{PAGE}: {BEGIN} and {END} must each stand in it once")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    latest = latest_of(RESULTS.read_text(encoding="utf-8").splitlines())
    ratios = ratios_of(latest)
    draw(ratios, PICTURE)
    generated = ratios_table(ratios) + "".join(table(entry) for entry in latest.values())
    PAGE.write_text(f"{before}{BEGIN}\n{generated}{END}{after}", encoding="utf-8")


def latest_of(lines: list[str]) -> dict[str, dict[str, Any]]:
    """The latest entry of each question, in the order in which the questions were first asked.

    An entry that says why it is `off_page` is history: it was measured in another way, or only tried the script.
    """
    latest: dict[str, dict[str, Any]] = {}
    for line in lines:
        entry = json.loads(line)
        if "off_page" not in entry:
            latest[entry["question"]] = entry
    return latest


def ratios_of(latest: dict[str, dict[str, Any]]) -> list[tuple[str, str, float | list[float]]]:
    """Question, figure and value of every ratio: to an alternative, to a floor, of a part to the whole."""
    return [
        (question, name, value)
        for question, entry in latest.items()
        for name, value in entry["figures"].items()
        if RATIO.search(name)
    ]


def ratios_table(ratios: list[tuple[str, str, float | list[float]]]) -> str:
    """Markdown of all ratios, and the picture of those to an alternative."""
    rows = "".join(f"| {question} | {name} | {shown(value)} |\n" for question, name, value in ratios)
    return (
        "\n### Ratios\n\nOurs against the alternative, or a part of the whole, measured in one run; median (lowest to"
        " highest).\n\n"
        f"![times faster]({PICTURE.relative_to(PAGE.parent).as_posix()})\n\n"
        f"| question | ratio | value |\n|---|---|---|\n{rows}"
    )


def faster_of(ratios: list[tuple[str, str, float | list[float]]]) -> list[tuple[str, list[float]]]:
    """The bars: each alternative that we are faster than, by a name that no other bar has, and its rounds."""
    return [
        (f"{question}: {name}", value if isinstance(value, list) else [value])
        for question, name, value in ratios
        if FASTER in name
    ]


def draw(ratios: list[tuple[str, str, float | list[float]]], picture: Path) -> None:
    """A bar for each alternative that we are faster than, with the spread of its rounds."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    faster = faster_of(ratios)
    middles = [statistics.median(values) for _, values in faster]
    below = [middle - min(values) for middle, (_, values) in zip(middles, faster, strict=True)]
    above = [max(values) - middle for middle, (_, values) in zip(middles, faster, strict=True)]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(faster) + 1), layout="constrained")
    axes.barh([textwrap.fill(name, 62) for name, _ in faster], middles, xerr=[below, above], capsize=3)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize="small")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("times faster than the alternative (median, lowest to highest)")
    figure.savefig(picture, metadata={"Software": None})
    plt.close(figure)


def table(entry: dict[str, Any]) -> str:
    """Markdown of one entry."""
    rows = "".join(f"| {name} | {shown(value)} |\n" for name, value in entry["figures"].items())
    return (
        f"\n### {entry['question'][0].upper()}{entry['question'][1:]}\n\n"
        f"`{entry['command']}`, commit {entry['commit']}, {entry['date'][:10]}, {entry['machine']}."
        " Median of the runs (lowest to highest).\n\n"
        f"| figure | value |\n|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    main()
