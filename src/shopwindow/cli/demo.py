"""The verbs of the drawn shop: draw one, and the demo that runs every stage on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

SPLITS: Final = ("train", "valid", "test")
SMOOTHING: Final = "0.7,0.2,0.1"


def draw(
    out: str,
    *,
    products: int = 3000,
    seed: int = 0,
    possessive_share: float = 0.0,
    crowded_share: float = 0.0,
    occurrence_leak: bool = False,
) -> None:
    """Draw a shop: photos, training pairs, validation and test pools with answers, in the competition's format.

    Args:
        out: The folder to write; an older drawn shop there is replaced.
        products: How many products, each with one photo; at least 60.
        seed: The same seed draws the same shop, to the byte.
        possessive_share: Share of the training rows whose query begins with 's, as in the competition's data.
        crowded_share: Share of the photos with more than 40 boxes.
        occurrence_leak: Plant the competition's leak: right products stand in one pool only, wrong ones in many.
    """
    from pathlib import Path

    from shopwindow.cli.console import standard_output
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
    standard_output().print(f"{summary}\nshop: {out}", soft_wrap=True)


def demo(
    *,
    out: str = "demo",
    products: int = 3000,
    recipe: str = "bow",
    seed: int = 0,
    serve: bool = False,
    port: int = 8000,
) -> None:
    """Draw a shop and run every stage on it, from prepare to a search index; print scores and where to look.

    Args:
        out: The folder for everything: shop, datasets, bundle, runs, submission, contact sheet, index.
        products: How many products to draw; 3000 take some 3 minutes in all on two cores.
        recipe: The recipe to train by; on a drawn shop the quick baseline bow is as good as any.
        seed: Of the drawn shop.
        serve: Then serve the index with its page, until Ctrl-C.
        port: Where to serve.
    """
    from pathlib import Path

    from shopwindow.cli.console import standard_output

    console, folder, started = standard_output(), Path(out), time.monotonic()
    shop, index = folder / "shop", folder / "index"

    def stage(number: int, says: str) -> None:
        console.print(f"\n{number}  {says}", style="bold")

    stage(1, "draw: a shop with photos, queries and answers")
    draw(str(shop), products=products, seed=seed)
    stage(2, "prepare: competition files into datasets")
    _prepare(folder)
    stage(3, f"train: recipe {recipe}")
    _train(folder, recipe)
    stage(4, "rank: the test pools, never seen before, with and without smoothed regions")
    _rank(folder)
    stage(5, "evaluate and submit")
    _submit(folder)
    stage(6, "index: all products, with their photos")
    _index(folder)
    _print_scores(folder, console)
    _print_places(folder, console, time.monotonic() - started)
    if serve:
        from shopwindow.cli import serve as service

        service.serve(str(index), port=port, suggest=_suggestions(list(_test_texts(folder).values())))


def _prepare(folder: Path) -> None:
    from shopwindow.cli.prepare import prepare

    for split in SPLITS:
        prepare([str(folder / "shop" / f"{split}.tsv")], out=str(folder / split))


def _train(folder: Path, recipe: str) -> None:
    from shopwindow.cli.learn import train

    train(
        str(folder / "train"),
        valid=str(folder / "valid"),
        answers=str(folder / "shop" / "valid_answer.json"),
        out=str(folder / "bundle"),
        recipe=recipe,
    )


def _rank(folder: Path) -> None:
    from shopwindow.cli.learn import rank

    for name, smooth in (("test", None), ("test-smoothed", SMOOTHING)):
        rank(str(folder / "bundle"), str(folder / "test"), out=str(folder / f"{name}.run"), smooth=smooth)


def _submit(folder: Path) -> None:
    """The submission, and a few queries of it with their first photos."""
    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.pools import read_pools
    from shopwindow.ranking.runs import read_run
    from shopwindow.ranking.submission import write_submission
    from shopwindow.report.contact_sheet import contact_sheet, rows_of_run

    shop, run = folder / "shop", read_run(folder / "test.run")
    write_submission(run, read_pools(shop / "test.tsv"), folder / "submission.csv")
    rows = rows_of_run(run, read_answers(shop / "test_answer.json"), _test_texts(folder), shop / "photos")
    contact_sheet(rows, folder / "contact-sheet.png")


def _index(folder: Path) -> None:
    """One index of the products of all splits; what shoppers typed in training is its full text."""
    from shopwindow.cli.index import add, make

    shop, index = folder / "shop", str(folder / "index")
    columns, (first, *others) = str(shop / "columns.csv"), [str(folder / split) for split in SPLITS]
    make(
        str(folder / "bundle"),
        first,
        out=index,
        photos=str(shop / "photos"),
        texts=first,
        labels=str(shop / "multimodal_labels.txt"),
        columns=columns,
    )
    for dataset in others:
        add(index, dataset, columns=columns)


def _test_texts(folder: Path) -> dict[str, str]:
    """The words of the test queries by id."""
    from shopwindow.data.dataset import Dataset

    dataset = Dataset(folder / "test")
    return dict(zip(map(str, dataset.query_ids.tolist()), dataset.query_texts, strict=True))


def _suggestions(texts: list[str]) -> list[str]:
    """A few queries of middling length, for the page to offer."""
    middling = sorted({text for text in texts if 2 <= len(text.split()) <= 3})
    return middling[:: max(1, len(middling) // 4)][:4]


def _print_scores(folder: Path, console: Console) -> None:
    """The runs beside random order and the best possible."""
    import numpy as np

    from shopwindow.cli.console import AlignedTable
    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.measures import Measure, evaluate
    from shopwindow.ranking.pools import oracle_run, random_run, read_pools
    from shopwindow.ranking.runs import read_run

    pools = read_pools(folder / "shop" / "test.tsv")
    answers = read_answers(folder / "shop" / "test_answer.json")
    runs = [
        read_run(folder / "test.run", name="shopwindow"),
        read_run(folder / "test-smoothed.run", name="with smoothing"),
        random_run(pools, np.random.default_rng(0), name="random order"),
        oracle_run(pools, answers),
    ]
    measures = [Measure.parse(name) for name in ("nDCG@5", "hit@1", "recall@10", "MRR")]
    table = AlignedTable([f"{len(answers.queries)} test queries", *map(str, measures)])
    for run in runs:
        evaluation = evaluate(run, answers, measures)
        cells = [f"{evaluation.mean(m):.3f} ± {evaluation.standard_error(m):.3f}" for m in measures]
        table.add_row(run.name, *cells)
    console.print(table)


def _print_places(folder: Path, console: Console, seconds: float) -> None:
    from rich.text import Text

    places = {
        "contact-sheet.png": "queries and their first photos, right ones framed: look here first",
        "bundle/curves.png": "loss and score over the training",
        "bundle": "the trained model",
        "test.run": "the ranking; test-smoothed.run the smoothed one",
        "submission.csv": "the ranking as the competition wants it",
        "shop/photos": "the drawn photos",
        "index": f"the search index; its page: shopwindow serve {folder / 'index'}",
    }
    width = max(len(str(folder / place)) for place in places)
    console.print()
    for place, says in places.items():
        console.print(f"{folder / place!s:<{width}} ", Text(says, style="dim"), soft_wrap=True)
    console.print(f"{seconds:.0f} s in all", style="dim")
