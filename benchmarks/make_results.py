"""Puts the latest figures of each question into `docs/results.md`, between the two marker comments.

The rest of that page is written by hand and stays as it is.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from record import RESULTS, ROOT, shown

PAGE: Final = ROOT / "docs" / "results.md"
BEGIN: Final = "<!-- benchmarks:begin -->"
END: Final = "<!-- benchmarks:end -->"


def main() -> None:
    """Renews the page."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        sys.exit(f"{PAGE}: {BEGIN} and {END} must each stand in it once")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    PAGE.write_text(f"{before}{BEGIN}\n{tables(lines)}{END}{after}", encoding="utf-8")


def tables(lines: list[str]) -> str:
    """A table for each question, of its latest entry, in the order in which the questions were first asked."""
    latest: dict[str, dict[str, Any]] = {}
    for line in lines:
        entry = json.loads(line)
        latest[entry["question"]] = entry
    return "".join(table(entry) for entry in latest.values())


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
