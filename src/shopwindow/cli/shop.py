"""The verbs of the drawn shop: draw one, and the demo that runs every stage on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from rich.console import Console

    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.pools import Pools
    from shopwindow.ranking.runs import Run

SMOOTHING = (0.7, 0.2, 0.1)
SHEET_QUERIES = 6
SHEET_PHOTOS = 6


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

    from shopwindow.cli import learn, prepare
    from shopwindow.cli import serve as service
    from shopwindow.cli.console import standard_output
    from shopwindow.ranking.submission import write_submission

    console = standard_output()
    folder = Path(out)
    shop = folder / "shop"
    started = time.monotonic()

    def stage(number: int, says: str) -> None:
        console.print(f"\n{number}  {says}", style="bold")

    stage(1, "draw: a shop with photos, queries and answers")
    draw(str(shop), products=products, seed=seed)
    stage(2, "prepare: competition files into datasets")
    for split in ("train", "valid", "test"):
        prepare.prepare([str(shop / f"{split}.tsv")], out=str(folder / split))
    stage(3, f"train: two towers, recipe {recipe}")
    learn.train(
        str(folder / "train"),
        valid=str(folder / "valid"),
        answers=str(shop / "valid_answer.json"),
        out=str(folder / "bundle"),
        recipe=recipe,
    )
    stage(4, "rank: the test pools, never seen before, with and without smoothed regions")
    run_path, smooth_path = folder / "test.run", folder / "test-smoothed.run"
    learn.rank(str(folder / "bundle"), str(folder / "test"), out=str(run_path))
    learn.rank(
        str(folder / "bundle"),
        str(folder / "test"),
        out=str(smooth_path),
        smooth=",".join(map(str, SMOOTHING)),
    )
    stage(5, "evaluate and submit")
    found = _Ranked.read(run_path, smooth_path, shop)
    write_submission(found.runs[0], found.pools, folder / "submission.csv")
    found.draw_sheet(shop, folder / "contact-sheet.png")
    stage(6, "index: all products, with their photos")
    _index_all(folder, shop)
    _print_scores(found, console)
    _print_places(folder, console, time.monotonic() - started)
    if serve:
        service.serve(str(folder / "index"), port=port, suggest=found.suggestions())


def _index_all(folder: Path, shop: Path) -> None:
    """One index of the products of all splits; what shoppers typed in training is its full text."""
    from shopwindow.cli import index as verbs

    index = str(folder / "index")
    verbs.make(
        str(folder / "bundle"),
        str(folder / "train"),
        out=index,
        photos=str(shop / "photos"),
        texts=str(folder / "train"),
        labels=str(shop / "multimodal_labels.txt"),
        columns=str(shop / "columns.csv"),
    )
    for split in ("valid", "test"):
        verbs.add(index, str(folder / split), columns=str(shop / "columns.csv"))


class _Ranked:
    """What the demo has to show of its test split: runs, pools and answers."""

    def __init__(self, runs: list[Run], pools: Pools, answers: Answers, texts: dict[int, str]) -> None:
        self.runs = runs
        self.pools = pools
        self.answers = answers
        self.texts = texts

    @classmethod
    def read(cls, plain: Path, smoothed: Path, shop: Path) -> _Ranked:
        import numpy as np

        from shopwindow.data.dataset import Dataset
        from shopwindow.ranking.answers import read_answers
        from shopwindow.ranking.pools import oracle_run, random_run, read_pools
        from shopwindow.ranking.runs import read_run

        pools = read_pools(shop / "test.tsv")
        answers = read_answers(shop / "test_answer.json")
        dataset = Dataset(plain.parent / "test")
        texts = dict(zip(dataset.query_ids.tolist(), dataset.query_texts, strict=True))
        runs = [
            read_run(plain, name="shopwindow"),
            read_run(smoothed, name="with smoothing"),
            random_run(pools, np.random.default_rng(0), name="random order"),
            oracle_run(pools, answers),
        ]
        return cls(runs, pools, answers, texts)

    def suggestions(self) -> list[str]:
        """A few queries of middling length, for the page to offer."""
        texts = sorted({text for text in self.texts.values() if 2 <= len(text.split()) <= 3})
        return [texts[place] for place in range(0, len(texts), max(1, len(texts) // 4))][:4]

    def draw_sheet(self, shop: Path, out: Path) -> None:
        """A few queries with their first photos, right ones framed."""
        import numpy as np

        from shopwindow.report.contact_sheet import SheetCell, SheetRow, contact_sheet

        run = self.runs[0]
        right = set(zip(self.answers.query_ids.tolist(), self.answers.product_ids.tolist(), strict=True))
        picked = _spread(
            np.array([len(self.texts[query].split()) for query in run.queries.tolist()]), SHEET_QUERIES
        )
        rows = []
        for index in picked:
            query = int(run.queries[index])
            cells = [
                SheetCell(shop / "photos" / f"{product}.jpg", (query, product) in right, f"{place}")
                for place, product in enumerate(run.products_of(index)[:SHEET_PHOTOS].tolist(), start=1)
            ]
            rows.append(SheetRow(self.texts[query], tuple(cells)))
        contact_sheet(rows, out)


def _spread(values: np.ndarray, count: int) -> list[int]:
    """Places that spread over the order of some values, the same every time."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    return [
        int(place)
        for place in order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    ]


def _print_scores(found: _Ranked, console: Console) -> None:
    from shopwindow.cli.console import AlignedTable
    from shopwindow.ranking.measures import Measure, evaluate

    measures = [Measure.parse(name) for name in ("nDCG@5", "hit@1", "recall@10", "MRR")]
    table = AlignedTable([f"{len(found.answers.queries)} test queries", *map(str, measures)])
    for run in found.runs:
        evaluation = evaluate(run, found.answers, measures)
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
