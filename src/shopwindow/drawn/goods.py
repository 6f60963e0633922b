"""What does the shop sell?

One row per kind: how it is drawn, what shoppers call it, which shapes and materials it comes in, where it stands in a
photo, and the detector's category. Everything that is said of a kind is said here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from shopwindow.drawn import home, wear
from shopwindow.drawn.canvas import Canvas
from shopwindow.drawn.look import Look
from shopwindow.drawn.paint import Number

Place = Literal["floor", "table", "wall", "ceiling", "lying"]


@dataclass(frozen=True)
class Shape:
    """One build of a kind: the words shoppers have for it, and its width as a share of its height."""

    name: str
    words: tuple[str, ...]
    aspect: Number


@dataclass(frozen=True)
class Kind:
    """One kind of goods. `nouns`: the commonest first; `category`: 0-32 as in the competition."""

    name: str
    category: int
    draw: Callable[[Canvas, Look], None]
    nouns: tuple[str, ...]
    shapes: tuple[Shape, ...]
    materials: tuple[str, ...]
    places: tuple[Place, ...]
    period: Number = 0.16  # of a pattern, in heights
    audience: tuple[str, ...] = ()  # "for women" and the like, which say nothing of the looks


_WOMEN: Final = ("for women", "ms.", "girls")
_ALL: Final = ("for women", "for men", "unisex", "kids")

KINDS: Final = (
    Kind("shoe", 4, wear.shoe, ("shoes", "shoe", "footwear"),
         (Shape("low-top", ("low-top",), 2.0),
          Shape("high-top", ("high-top",), 1.42),
          Shape("high-heeled", ("high-heeled", "high heel"), 1.55)),
         ("canvas", "leather", "suede"), ("floor", "table", "lying"), 0.24, _ALL),
    Kind("boot", 4, wear.boot, ("boots", "winter boots"),
         (Shape("ankle", ("ankle", "short"), 1.18), Shape("long", ("long", "knee-high"), 0.68)),
         ("leather", "suede"), ("floor", "table"), 0.17, _ALL),
    Kind("handbag", 3, wear.handbag, ("bag", "handbag", "shoulder bag", "purse"),
         (Shape("large", ("large", "tote"), 1.2),
          Shape("small", ("small", "mini"), 1.02),
          Shape("round", ("round",), 0.9)),
         ("canvas", "leather", "straw"), ("table", "floor", "wall"), 0.16, _WOMEN),
    Kind("backpack", 3, wear.backpack, ("backpack", "school bag", "rucksack"),
         (Shape("large", ("large", "big"), 0.95), Shape("small", ("small", "mini"), 0.85)),
         ("canvas", "leather", "nylon"), ("table", "floor", "wall"), 0.15, _ALL),
    Kind("shirt", 0, wear.shirt, ("shirt", "blouse", "top"),
         (Shape("short-sleeved", ("short-sleeved", "short sleeve"), 1.22),
          Shape("long-sleeved", ("long-sleeved", "long sleeve"), 1.2),
          Shape("sleeveless", ("sleeveless",), 0.7)),
         ("cotton", "denim", "knitted", "silk", "linen"), ("wall", "lying"), 0.13, _ALL),
    Kind("dress", 1, wear.dress, ("dress", "frock"),
         (Shape("short", ("short", "mini"), 0.8), Shape("long", ("long", "maxi"), 0.62)),
         ("cotton", "denim", "silk", "linen", "knitted"), ("wall", "lying"), 0.10, _WOMEN),
    Kind("trousers", 2, wear.trousers, ("pants", "trousers"),
         (Shape("long", ("long",), 0.66), Shape("short", ("short", "summer short"), 0.82)),
         ("cotton", "denim", "linen"), ("wall", "lying"), 0.10, _ALL),
    Kind("cap", 5, wear.cap, ("hat", "cap"),
         (Shape("peaked", ("peaked", "baseball"), 1.75),
          Shape("bucket", ("bucket",), 1.62),
          Shape("bobble", ("bobble", "pompom"), 1.04)),
         ("cotton", "denim", "knitted", "straw"), ("table", "lying", "wall"), 0.22, _ALL),
    Kind("umbrella", 5, wear.umbrella, ("umbrella", "rain umbrella"),
         (Shape("open", ("open",), 1.26), Shape("folded", ("folded", "folding"), 0.24)),
         ("nylon", "cotton"), ("wall", "floor", "lying"), 0.15, _ALL),
    Kind("watch", 5, wear.watch, ("watch", "wristwatch"),
         (Shape("round", ("round",), 0.54), Shape("square", ("square",), 0.54)),
         ("leather", "metal", "nylon"), ("lying", "wall"), 0.10, _ALL),
    Kind("mug", 14, home.mug, ("mug", "cup", "coffee cup"),
         (Shape("wide", ("wide", "large"), 1.3), Shape("tall", ("tall",), 0.95)),
         ("ceramic", "metal", "glass"), ("table",), 0.2),
    Kind("bottle", 14, home.bottle, ("bottle", "water bottle"),
         (Shape("slim", ("slim", "tall"), 0.29), Shape("round", ("round", "wide"), 0.51)),
         ("glass", "metal", "plastic"), ("table",), 0.12),
    Kind("teapot", 14, home.teapot, ("teapot", "tea kettle"),
         (Shape("round", ("round",), 1.55), Shape("tall", ("tall",), 1.26)),
         ("ceramic", "metal", "glass"), ("table",), 0.2),
    Kind("lamp", 19, home.lamp, ("lamp", "light"),
         (Shape("table", ("table", "desk"), 0.8),
          Shape("floor", ("floor", "standing"), 0.43),
          Shape("hanging", ("hanging", "pendant"), 1.0)),
         ("linen", "metal", "glass", "paper"), ("table", "floor"), 0.13),
    Kind("chair", 9, home.chair, ("chair", "seat"),
         (Shape("high-back", ("high-back", "tall"), 0.8),
          Shape("low-back", ("low-back",), 0.8),
          Shape("backless", ("backless", "stool"), 0.8)),
         ("wooden", "plastic", "metal", "velvet"), ("floor",), 0.12),
    Kind("table", 9, home.table, ("table", "desk"),
         (Shape("round", ("round",), 1.44),
          Shape("square", ("square",), 1.4),
          Shape("long", ("long", "large"), 2.04)),
         ("wooden", "metal", "glass", "plastic"), ("floor",), 0.22),
    Kind("sofa", 9, home.sofa, ("sofa", "couch"),
         (Shape("single", ("single", "small"), 1.24), Shape("double", ("double", "large"), 2.1)),
         ("velvet", "leather", "linen"), ("floor",), 0.16),
    Kind("clock", 12, home.clock, ("clock", "wall clock"),
         (Shape("round", ("round",), 1.0), Shape("square", ("square",), 1.0)),
         ("wooden", "metal", "plastic"), ("wall", "table"), 0.16),
    Kind("vase", 12, home.vase, ("vase", "bud vase"),
         (Shape("slim", ("slim", "tall"), 0.55), Shape("round", ("round",), 0.66)),
         ("ceramic", "glass", "metal"), ("table",), 0.11),
    Kind("book", 10, home.book, ("notebook", "books", "diary book"),
         (Shape("thick", ("thick",), 0.92), Shape("thin", ("thin",), 0.79)),
         ("paper", "leather", "linen"), ("table", "lying"), 0.15),
    Kind("cushion", 13, home.cushion, ("cushion", "pillow"),
         (Shape("square", ("square",), 1.04), Shape("round", ("round",), 1.05)),
         ("cotton", "velvet", "knitted", "linen"), ("lying", "floor", "table"), 0.17),
)  # fmt: skip

# Nouns that shoppers use for a second kind too: of that kind, nothing that fits is ever called irrelevant.
ALSO_CALLED: Final = {"bag": "backpack", "footwear": "boot", "seat": "sofa"}

BY_NAME: Final = {kind.name: kind for kind in KINDS}

# The 33 categories of the competition's detector, by id.
CATEGORIES: Final = (
    "top clothes (coat, jacket, shirt, etc.)",
    "skirt & dress",
    "bottom clothes (trousers, pants, etc.)",
    "luggage, leather goods",
    "shoes",
    "accessories (jewelry, clothing accessories, belts, hats, scarves, etc.)",
    "snacks, nuts, liquor and tea",
    "makeup, perfume, beauty tools and essential oils",
    "bottle drink",
    "furniture",
    "stationery",
    "household electrical appliances",
    "home decoration",
    "household fabric",
    "kitchenware",
    "home / personal cleaning tools",
    "storage supplies",
    "motorcycle, motorcycle accessories, vehicles, bicycle and riding equipment",
    "outdoor product",
    "lighting",
    "toys",
    "underwear",
    "digital supplies",
    "bed linens",
    "baby products",
    "personal care",
    "sporting goods",
    "clothes (accessories, baby clothing, etc.)",
    "others",
    "human face",
    "arm",
    "hair",
    "hand",
)
OTHERS: Final = 28
FACE: Final = 29
ARM: Final = 30
HAIR: Final = 31
HAND: Final = 32


def shape_of(kind: Kind, name: str) -> Shape:
    """The kind's shape of that name."""
    return next(shape for shape in kind.shapes if shape.name == name)


@dataclass(frozen=True)
class Good:
    """One product's truth: what a query may say of it."""

    kind: str
    colour: str
    pattern: str
    material: str
    shape: str
