"""A report as one HTML file: no script, no other file, light and dark, readable on a phone.

It knows headings, paragraphs, tables, drawings and photos, and nothing of what they say. All text is escaped here.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #23252b; --quiet: #656973; --line: #dfe1e6; --card: #f6f7f9;
  --good: #1d7f4e; --bad: #c0364a; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181d; --ink: #e8eaef; --quiet: #9ba0ab; --line: #33363f;
  --card: #1f2229; --good: #55c48b; --bad: #f0788a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; } .quiet { color: var(--quiet); font-size: .9rem; }
.say { background: var(--card); border-left: 4px solid var(--quiet); border-radius: .25rem; padding: .75rem 1rem; }
.say.good { border-color: var(--good); } .say.bad { border-color: var(--bad); }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } th { color: var(--quiet); font-weight: 600; }
@media (max-width: 30rem) { table { font-size: .8rem; } th, td { padding-right: .5rem; } }
figure { margin: 1rem 0; } figcaption { color: var(--quiet); font-size: .9rem; }
svg { display: block; width: 100%; height: auto; font-family: system-ui, sans-serif; }
.photos { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: .25rem 0; list-style: none; }
.photos li { width: 5.5rem; font-size: .75rem; color: var(--quiet); }
.photos .box { height: 5.5rem; border: 2px solid var(--line); border-radius: .35rem; background: var(--card);
  overflow: hidden; display: grid; place-items: center; }
.photos .right .box { border-color: var(--good); }
.photos img { width: 100%; height: 100%; object-fit: cover; display: block; }
"""


@dataclass(frozen=True)
class Thumbnail:
    """A product among the results of a query: its id, whether it is an answer, a JPEG where one is known."""

    product: str
    right: bool
    jpeg: bytes | None = None


@dataclass
class Page:
    """A page that grows from top to bottom."""

    title: str
    _parts: list[str] = field(default_factory=list)

    def heading(self, text: str, *, level: int = 2) -> None:
        """A heading of a section (2) or a part of one (3)."""
        self._parts.append(f"<h{level}>{html.escape(text)}</h{level}>")

    def paragraph(self, text: str, *, quiet: bool = False) -> None:
        """A paragraph of plain text."""
        self._parts.append(f"<p{' class=quiet' if quiet else ''}>{html.escape(text)}</p>")

    def statement(self, text: str, *, good: bool | None = None) -> None:
        """The one sentence to take away, coloured good or bad where it is either."""
        tone = {True: " good", False: " bad", None: ""}[good]
        self._parts.append(f'<p class="say{tone}">{html.escape(text)}</p>')

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; the first column stands left, numbers right; it scrolls where the screen is narrow."""
        head = "".join(f"<th scope=col>{html.escape(column)}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        self._parts.append(
            f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def drawing(self, svg: str, caption: str) -> None:
        """A drawing (`plots.as_svg`) with its caption."""
        self._parts.append(f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def photos(self, thumbnails: Sequence[Thumbnail]) -> None:
        """The first products of one query, right ones framed and ticked; without any photo, their ids."""
        if all(one.jpeg is None for one in thumbnails):
            self.paragraph(" · ".join(("✓ " if one.right else "") + one.product for one in thumbnails))
            return
        items = []
        for one in thumbnails:
            product = html.escape(one.product)
            inside = "no photo"
            if one.jpeg is not None:
                data = base64.b64encode(one.jpeg).decode("ascii")
                inside = f'<img alt="product {product}" src="data:image/jpeg;base64,{data}">'
            mark, kind = ("✓ ", " class=right") if one.right else ("", "")
            items.append(f"<li{kind}><div class=box>{inside}</div>{mark}{product}</li>")
        self._parts.append(f"<ol class=photos>{''.join(items)}</ol>")

    def text(self) -> str:
        """The whole page."""
        title = html.escape(self.title)
        return (
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>\n"
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )
