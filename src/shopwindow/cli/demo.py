"""The verbs of the drawn shop: draw one, and the demo that makes it a searched and measured shop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shopwindow.cli.arguments import Filled, Replaced
from shopwindow.cli.console import say
from shopwindow.files import DataError, check_replaceable, is_ours

if TYPE_CHECKING:
    from shopwindow.shop.measuring import Judged


_DRAWN: Final = "drawn"
_SHOP: Final = "shop"
_SHEET: Final = "contact-sheet.png"


def draw(
    out: Replaced,
    *,
    products: int = 3000,
    seed: int = 0,
    possessive_share: float = 0.0,
    crowded_share: float = 0.0,
    occurrence_leak: bool = False,
) -> None:
    """Draw a shop: photos, its own products, clicks and judgements, and the same in the competition's format.

    Args:
        out: The folder to write; an older drawn shop there is replaced.
        products: How many products, each with one photo; at least 60.
        seed: The same seed draws the same shop, to the byte.
        possessive_share: Share of the training rows whose query begins with 's, as in the competition's data.
        crowded_share: Share of the photos with more than 40 boxes.
        occurrence_leak: Plant the competition's leak: right products stand in one pool only, wrong ones in many.
    """
    from shopwindow.cli.progress import counting
    from shopwindow.drawn.writing import draw_shop

    with counting("draw", "products") as tell:
        summary = draw_shop(
            Path(out),
            products=products,
            seed=seed,
            possessive_share=possessive_share,
            crowded_share=crowded_share,
            occurrence_leak=occurrence_leak,
            progress=tell,
        )
    say(f"{summary}\nshop: {out}")


def demo(
    *,
    out: Filled = "demo",
    products: int = 3000,
    recipe: str = "bow",
    seed: int = 0,
    serve: bool = False,
    port: int = 8000,
    threads: int | None = None,
) -> None:
    """Draw a shop, then do with it what `shopwindow shop` does with yours; say what it is worth and where to look.

    Args:
        out: The folder for everything: the drawn shop, and what is made of it.
        products: How many products to draw; 3000 take some 3 minutes in all on two cores.
        recipe: The recipe to train by; on a drawn shop the quick baseline bow is as good as any.
        seed: Of the drawn shop.
        serve: Then serve the index with its page, until Ctrl-C.
        port: Where to serve.
        threads: How many to compute with; as many as there are processors when not given.
    """
    _check_own(Path(out))
    from shopwindow.cli.shop import shop
    from shopwindow.data.dataset import Dataset
    from shopwindow.shop.measuring import Judged

    started = time.monotonic()
    drawn, mine = Path(out) / _DRAWN, Path(out) / _SHOP
    say("\n0  draw: photos, products.csv, clicks.csv, judgements.csv", style="bold")
    draw(str(drawn), products=products, seed=seed)
    shop(
        str(drawn / "products.csv"),
        clicks=str(drawn / "clicks.csv"),
        judgements=str(drawn / "judgements.csv"),
        backbone="plain",
        recipe=recipe,
        out=str(mine),
        threads=threads,
    )
    judged = Judged.read(drawn / "judgements.csv", Dataset(mine / "dataset"))
    _draw_sheet(mine, judged, drawn / "photos", Path(out) / _SHEET)
    _print_places(Path(out), time.monotonic() - started)
    if serve:
        from shopwindow.cli import serve as service

        service.serve(str(mine), port=port, suggest=_suggestions(judged.texts))


def _check_own(folder: Path) -> None:
    """Raises: DataError where the folder holds what no demo has written, or may not be written."""
    from shopwindow.drawn.writing import MARKER as DRAWN_MARKER
    from shopwindow.shop.stages import MARKER as SHOP_MARKER

    if folder.exists() and not folder.is_dir():
        raise DataError("exists and is not a directory; give another name", path=folder)
    for name, marker in ((_DRAWN, DRAWN_MARKER), (_SHOP, SHOP_MARKER)):
        check_replaceable(folder / name, marker=marker)
    known = {_DRAWN, _SHOP, *([_SHEET] if is_ours(folder / _DRAWN, DRAWN_MARKER) else [])}
    left = tuple(f".{name}." for name in (_DRAWN, _SHOP, _SHEET))  # of a demo that was killed
    others = [entry.name for entry in folder.iterdir() if entry.name not in known]
    if strange := sorted(name for name in others if not name.startswith(left)):
        raise DataError(
            f"holds other files ({strange[0]}); give another name or an empty folder", path=folder
        )


def _draw_sheet(mine: Path, judged: Judged, photos: Path, out: Path) -> None:
    """A few judged queries with the photos that the model puts first, of all products."""
    from shopwindow.data.dataset import Dataset
    from shopwindow.model.bundle import Bundle
    from shopwindow.report.contact_sheet import contact_sheet, rows_of_run
    from shopwindow.shop.rankers import pool_run, vector_ranker

    dataset, bundle = Dataset(mine / "dataset"), Bundle.load(mine / "bundle")
    ranker = vector_ranker(bundle.encode_texts, bundle.encode_dataset(dataset), "trained")
    run = pool_run(ranker, judged.answers, judged.texts, dataset.product_ids)
    texts = dict(zip(map(str, judged.answers.queries.tolist()), judged.texts, strict=True))
    contact_sheet(rows_of_run(run, judged.answers, texts, photos), out)


def _suggestions(texts: list[str]) -> list[str]:
    """A few queries of middling length, for the page to offer."""
    middling = sorted({text for text in texts if 2 <= len(text.split()) <= 3})
    return middling[:: max(1, len(middling) // 4)][:4]


def _print_places(folder: Path, seconds: float) -> None:
    from shopwindow.cli.progress import duration

    places = {
        "contact-sheet.png": "queries and their first photos, right ones framed: look here first",
        "shop/bundle/curves.png": "loss and score over the training",
        "shop/bundle": "the trained model",
        "drawn": "the drawn shop; its .tsv files are in the competition's format",
        "shop/index": f"the search index; its page: shopwindow serve {folder / 'shop'}",
    }
    width = max(len(str(folder / place)) for place in places)
    say("")
    for place, says in places.items():
        say(f"{folder / place!s:<{width}}  {says}")
    say(f"{duration(seconds)} in all", style="dim")
