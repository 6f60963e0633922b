"""The verbs that look at a set and at what was measured on it: audit and report. They compose ranking and data."""

from __future__ import annotations

import hashlib
import io
import json as json_text
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopwindow.cli.console import AlignedTable, counted, print_json, standard_output
from shopwindow.cli.systems import (
    check_numbers,
    check_overlap,
    read_measures,
    read_queries,
    read_runs,
    systems_of,
)
from shopwindow.files import STANDARD_STREAM, DataError, open_whole, read_text

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from shopwindow.data.dataset import Dataset
    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.audit import Audit, RunAudit
    from shopwindow.ranking.pools import Pools
    from shopwindow.ranking.shortcuts import Shortcut
    from shopwindow.ranking.significance import Score
    from shopwindow.report.report import Report

FOUND_A_LEAK = 1
_PRODUCTS_AT_ONCE = 2000
_THUMBNAIL_PX = 176


def audit(
    *,
    pools: str,
    answers: str,
    also: list[str] | None = None,
    run: list[str] | None = None,
    dataset: str | None = None,
    train: str | None = None,
    measure: str = "nDCG@5",
    fail_above: float | None = None,
    html: str | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Show which scores can be had on a set without doing the job.

    Orders that never read the query (order of the file, product ids, how often a product occurs, and with a dataset
    what boxes, labels, sizes and photos tell) are measured beside random order and the best possible. An order leaks
    when it is more than 0.03 above random and the test calls that real.

    Args:
        pools: The candidates of each query: a table `query_id product_id`, or a competition TSV.
        answers: Competition JSON or TREC qrels.
        also: Pools of other splits, in which the same products may occur.
        run: Runs to judge: their score, what each shortcut would add, and the score where occurrence says nothing.
        dataset: The prepared set of these pools: adds models on boxes, labels and sizes, and on the photos' features,
            that never read the query (held out by query and by product).
        train: The prepared training set: adds the popularity of products in it, and, with --dataset, its words.
        measure: One measure, as in evaluate.
        fail_above: Ends with exit code 1 when a shortcut leaks by more than this above random order.
        html: Where the report is written.
        seed: Of tie-breaking, held-out parts and resampling.
        json: Prints JSON instead of tables.
    """
    import numpy as np

    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.audit import MARGIN
    from shopwindow.ranking.audit import audit as audit_set
    from shopwindow.ranking.measures import Measure
    from shopwindow.ranking.pools import grades_of, read_pools
    from shopwindow.ranking.runs import read_run

    check_numbers(seed=seed)
    taken, candidates, right = Measure.parse(measure), read_pools(pools), read_answers(answers)
    if not grades_of(candidates, right).any():
        raise DataError("no answer is among the candidates: pools of another set?", path=pools)
    read = [read_run(path) for path in run or []]
    for one in read:
        check_overlap(one, right)
    generator = np.random.default_rng(seed)
    shortcuts, notes = _dataset_shortcuts(candidates, right, dataset, train, generator)
    found = audit_set(
        candidates,
        right,
        generator,
        also=[read_pools(path) for path in also or []],
        shortcuts=shortcuts,
        runs=read,
        measure=taken,
        margin=MARGIN if fail_above is None else fail_above,
    )
    found = replace(found, notes=tuple(notes))
    if html is not None:
        from shopwindow.report.report import Outside, audit_report

        files = [pools, answers, *(also or []), *(run or [])]
        _write_report(audit_report(found, outside=Outside(provenance=_provenance(files, seed))), html, None)
    if json:
        print_json(_as_json(found))
    else:
        _print_audit(standard_output(), found)
    if fail_above is not None and found.leaks:
        sys.exit(FOUND_A_LEAK)


def report(
    runs: list[str],
    *,
    answers: str,
    out: str,
    pools: str | None = None,
    also: list[str] | None = None,
    dataset: str | None = None,
    train: str | None = None,
    queries: str | None = None,
    photos: str | None = None,
    bundle: str | None = None,
    plots: str | None = None,
    measures: list[str] = ["nDCG@5", "nDCG-ones@5", "hit@1", "recall@5", "MRR"],  # noqa: B006 - shown in the help, never changed
    seed: int = 0,
) -> None:
    """Writes one HTML file that says how good the runs are, where, and whether they differ.

    The first run is compared with the others; files joined by commas are repeated seeds of one system.

    Args:
        runs: The runs, TREC or tables; the first one is the one looked at.
        answers: Competition JSON or TREC qrels.
        out: The HTML file; it needs no other file.
        pools: The candidates of each query: adds the audit of the set.
        also: Pools of other splits, for the audit.
        dataset: The prepared set: adds the words of the queries, scores by their length and head noun, and, with
            --pools, the audit's models that never read the query.
        train: The prepared training set, for the audit.
        queries: A table `query_id<TAB>query`: the words of the queries where no set is prepared.
        photos: A folder of photos named by product id (`17.jpg`), shown beside the best and worst queries.
        bundle: The trained model, whose provenance is printed.
        plots: A folder for every drawing on its own, as SVG and PNG.
        measures: As in evaluate; the first one is drawn.
        seed: Of resampling.
    """
    import numpy as np

    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.audit import audit as audit_set
    from shopwindow.ranking.pools import read_pools
    from shopwindow.ranking.significance import compare
    from shopwindow.report.report import Outside, evaluation_report

    check_numbers(seed=seed)
    taken, right = read_measures(measures), read_answers(answers)
    generator = np.random.default_rng(seed)
    read = read_runs(runs)
    systems, first = systems_of(runs, read, right, taken), read[0][0]
    candidates = read_pools(pools) if pools else None
    audited = None
    if candidates is not None:
        others = [read_pools(path) for path in also or []]
        shortcuts, notes = _dataset_shortcuts(candidates, right, dataset, train, generator)
        judged = [run for found in read for run in found]
        audited = audit_set(
            candidates, right, generator, also=others, shortcuts=shortcuts, runs=judged, measure=taken[0]
        )
        audited = replace(audited, notes=tuple(notes))
    files = [
        *(path for word in runs for path in word.split(",")),
        answers,
        *([pools] if pools else []),
        *(also or []),
        *([queries] if queries else []),
    ]
    written = evaluation_report(
        systems,
        compare(systems[0], systems[1:], generator) if len(systems) > 1 else [],
        first,
        right,
        generator,
        pools=candidates,
        audited=audited,
        outside=Outside(
            words=_words(dataset, queries),
            photo=_photos(photos),
            provenance=_provenance(files, seed) | _bundle_provenance(bundle),
        ),
    )
    _write_report(written, out, plots)
    compared, queries = counted(len(systems), "run"), counted(len(right.queries), "query", "queries")
    standard_output().print(f"{out}: {compared}, {queries}")


def _print_audit(console: Console, found: Audit) -> None:
    table = AlignedTable(["order", found.measure, "95 % interval", "over random", "p (Holm)", ""])
    for name, score in (("best possible", found.oracle), ("random", found.random)):
        table.add_row(name, *_cells(score), "", "", "")
    for line in sorted(found.lines, key=lambda line: -line.score.mean):
        lead = f"{line.above_random.mean:+.3f}"
        table.add_row(
            line.name, *_cells(line.score), lead, f"{line.p_corrected:.4f}", "leaks" if line.leaks else ""
        )
    console.print(table)
    console.print()
    table = AlignedTable(["candidates", "number", "answers", "P(answer)"])
    for stratum in found.strata:
        table.add_row(
            stratum.name, str(stratum.candidates), str(stratum.answers), f"{stratum.probability:.3f}"
        )
    console.print(table)
    for run in found.runs:
        console.print(f"\n{run.name}", style="bold")
        table = AlignedTable(["", found.measure, "95 % interval"])
        table.add_row("the run", *_cells(run.score))
        leaking = {line.name for line in found.leaks}
        for name, score in run.after.items():
            if name in leaking:
                table.add_row(f"+ {name}", *_cells(score))
        console.print(table)
        _print_cleared(console, run, found)
    for note in found.notes:
        console.print(f"\n{note}")
    console.print(f"\n{found.verdict}")


def _print_cleared(console: Console, run: RunAudit, found: Audit) -> None:
    """The run's score on the full pools and where grouping shortcuts say nothing, both beside random order."""
    table = AlignedTable(
        ["de-leaked", "(s-r)/(1-r)", "95 % interval", found.measure, "random", "over random"]
    )

    def add(name: str, corrected: Score, score: Score, random: Score) -> None:
        lead = f"{score.mean - random.mean:+.3f}"
        table.add_row(name, *_cells(corrected), f"{score.mean:.3f}", f"{random.mean:.3f}", lead)

    add("full pools", run.corrected, run.score, found.random)
    cleared = run.cleared
    if cleared is not None:
        add("cleared", cleared.corrected, cleared.score, cleared.random)
    console.print()
    console.print(table)
    if cleared is None:
        console.print("cleared: no pool holds an answer and another candidate that occur equally often")
    else:
        console.print(
            f"cleared: among candidates that occur equally often; {cleared.queries / found.queries:.0%} of the queries"
            f" and {cleared.answers / found.answers:.0%} of the answers are left"
        )
    if run.not_cleared:
        console.print(f"not cleared of: {', '.join(run.not_cleared)}")
    for count, what in (
        (run.missing, "judged queries that are not in the run, counted 0"),
        (run.unscored, "candidates that the run does not score"),
        (run.outside, "products that the run scores outside the pools, ranked all the same"),
    ):
        if count:
            console.print(f"{what}: {count}")


def _cells(score: Score) -> tuple[str, str]:
    known = math.isfinite(score.low)
    return f"{score.mean:.3f}", f"{score.low:.3f} to {score.high:.3f}" if known else ""


def _as_json(found: Audit) -> dict[str, Any]:
    content = asdict(found) | {"verdict": found.verdict, "leaks": [line.name for line in found.leaks]}
    content["strata"] = [asdict(one) | {"probability": one.probability} for one in found.strata]
    return content


def _dataset_shortcuts(
    pools: Pools, answers: Answers, dataset: str | None, train: str | None, generator: np.random.Generator
) -> tuple[list[Shortcut], list[str]]:
    """What a prepared set and a training set add: learned from statistics and photos, popularity, training text;
    and what does not apply."""
    import numpy as np

    from shopwindow.ranking.blind import equal_rows, in_bins, query_blind_scores
    from shopwindow.ranking.pools import grades_of
    from shopwindow.ranking.shortcuts import Shortcut, image_blind_shortcut, popularity_shortcuts

    if dataset is None and train is None:
        return [], []
    from shopwindow.data.dataset import Dataset

    found: list[Shortcut] = []
    notes: list[str] = []
    if dataset is not None:
        products, statistics, features = _product_arrays(Dataset(dataset), pools)
        grades = grades_of(pools, answers)
        for name, columns in (
            ("boxes, labels, sizes", in_bins(statistics)),
            ("query-blind photos", features),
        ):
            scores = query_blind_scores(
                pools, grades, products, columns, generator, same=equal_rows(features)
            )
            found.append(Shortcut(name, scores))
    if train is not None:
        training = Dataset(train)
        found += popularity_shortcuts(pools, training.product_ids[training.pair_products])
        if dataset is not None:
            if np.isin(pools.product_ids, training.product_ids).any():
                found.append(image_blind_shortcut(pools, *_word_counts(Dataset(dataset), training)))
            else:
                notes.append(
                    "image-blind (text only): does not apply, no candidate is a product of the training set"
                )
    return found, notes


def _product_arrays(dataset: Dataset, pools: Pools) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pools' products in the dataset: ids, statistics of boxes, labels and sizes, and mean features."""
    import numpy as np

    rows = np.flatnonzero(np.isin(dataset.product_ids, pools.product_ids))
    if not len(rows):
        raise DataError("holds no product of the pools", path=dataset.path)
    statistics, features = [], []
    for start in range(0, len(rows), _PRODUCTS_AT_ONCE):
        part = rows[start : start + _PRODUCTS_AT_ONCE]
        regions = dataset.regions(part)
        counts, values = regions.counts.numpy(), regions.features.float().numpy()
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        features.append(np.add.reduceat(values, starts, axis=0) / counts[:, None])
        boxes, sizes = dataset.boxes(part), dataset.image_sizes(part)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        photo = sizes.prod(axis=1)
        labels = dataset.labels(part)
        columns = [counts, sizes[:, 0], sizes[:, 1], sizes[:, 0] / sizes[:, 1], labels[starts]]
        columns += [np.maximum.reduceat(areas, starts) / photo, np.add.reduceat(areas, starts) / photo]
        statistics.append(np.stack([column.astype(np.float64) for column in columns], axis=1))
    return dataset.product_ids[rows], np.concatenate(statistics), np.concatenate(features)


def _word_counts(dataset: Dataset, training: Dataset) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Word counts of the set's queries, and of the training queries of every training product, with their ids."""
    import numpy as np
    from scipy import sparse

    numbers: dict[str, int] = {}

    def counts(texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        words = [[numbers.setdefault(word, len(numbers)) for word in text.lower().split()] for text in texts]
        rows = np.repeat(np.arange(len(words)), [len(one) for one in words])
        return rows, np.array([number for one in words for number in one], dtype=np.int64)

    def matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Any:
        return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)

    taught, asked = counts(training.query_texts), counts(dataset.query_texts)
    queries = len(training.query_ids)
    pairs = matrix(training.pair_products, training.pair_queries, (len(training.product_ids), queries))
    by_product = sparse.csr_array(pairs @ matrix(*taught, (queries, len(numbers))))
    by_query = matrix(*asked, (len(dataset.query_ids), len(numbers)))
    return by_query, dataset.query_ids, by_product, training.product_ids


def _words(dataset: str | None, queries: str | None) -> dict[str, str]:
    """The words of every query by its id, from a table or a prepared set."""
    path = queries or dataset
    if path is None:
        return {}
    ids, texts = read_queries(path)
    return dict(zip(map(str, ids.tolist()), texts, strict=True))


def _photos(folder: str | None) -> Callable[[str], bytes | None]:
    """Finds a product's photo in a folder and makes it small."""
    if folder is None:
        return lambda _: None
    if not Path(folder).is_dir():
        raise DataError("no such folder", path=folder)

    def small(product: str) -> bytes | None:
        from PIL import Image, ImageOps

        if not product.isprintable() or ".." in product or any(sign in product for sign in "/\\:"):
            return None  # an id is data from outside: it names a file of this folder, or none
        for ending in ("jpg", "jpeg", "png", "webp"):
            path = Path(folder) / f"{product}.{ending}"
            if path.is_file():
                stored = io.BytesIO()
                try:
                    with Image.open(path) as photo:
                        upright = ImageOps.exif_transpose(photo).convert("RGB")
                        ImageOps.fit(upright, (_THUMBNAIL_PX,) * 2).save(stored, "JPEG", quality=80)
                except (OSError, Image.DecompressionBombError) as error:
                    raise DataError(f"is no photo: {error}", path=path) from error
                return stored.getvalue()
        return None

    return small


def _provenance(files: Iterable[str], seed: int) -> dict[str, str]:
    """The version, and every file by the beginning of its SHA-256."""
    from shopwindow import __version__

    found = {"shopwindow": __version__, "seed of resampling": str(seed)}
    for path in files:
        if path != STANDARD_STREAM:
            with Path(path).open("rb") as file:
                name = path if Path(path).name in found else Path(path).name
                found[name] = "sha256 " + hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return found


def _bundle_provenance(bundle: str | None) -> dict[str, str]:
    if bundle is None:
        return {}
    path = Path(bundle) / "bundle.json"
    try:
        card = json_text.loads(read_text(path))
        found = {f"model {name}": str(value) for name, value in card["provenance"].items()}
    except (json_text.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise DataError("is no bundle's card", path=path) from error
    recipe = path.with_name("recipe.yaml")
    if recipe.is_file():
        found["model recipe"] = " ".join(read_text(recipe).split()) or "the defaults"
    return {"model": Path(bundle).name, **found}


def _write_report(report: Report, out: str, plots: str | None) -> None:
    from shopwindow.report.plots import write_figure

    with open_whole(out) as file:
        file.write(report.page.text())
    for name, figure in report.figures.items():
        if plots is not None:
            write_figure(figure, Path(plots), name)
