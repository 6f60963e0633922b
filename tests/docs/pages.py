"""The pages that people read: where they lie, what they link to, and which commands and code they show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
OUTSIDE: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^()\s]+)\)")


def written() -> list[Path]:
    """Every page that lies in the repository."""
    return [ROOT / name for name in OUTSIDE] + sorted(DOCS.rglob("*.md"))


def fenced(text: str, *kinds: str) -> list[str]:
    """The blocks of these kinds in a page."""
    return [block for kind, block in _FENCED.findall(text) if kind in kinds]


def links(text: str) -> list[str]:
    """The places that a page names, addresses of other hosts left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCED.sub("", text))
    return [link for link in _LINK.findall(prose) if not re.match(r"\w+:", link)]


def anchors(text: str) -> set[str]:
    """The names of the headings of a page, as GitHub and mkdocs make them."""
    heads = re.findall(r"^#+ +(.*)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head.lower())).strip("-") for head in heads}


def commands(text: str) -> list[str]:
    """The shopwindow commands of a page's blocks, comments cut, lines that go on joined."""
    blocks = fenced(text, "", "sh", "console")
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    bare = [re.sub(r"\s+#.*$", "", line.removeprefix("$ ").strip()) for line in lines]
    return [
        line.removeprefix(".venv/bin/") for line in bare if re.match(r"(\.venv/bin/)?shopwindow [a-z]", line)
    ]
