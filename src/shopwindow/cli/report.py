"""The verb that writes a report of runs. It composes `shopwindow.ranking` and `shopwindow.report`."""

from __future__ import annotations

from shopwindow.cli.arguments import Filled, Replaced
from shopwindow.cli.console import counted, say
from shopwindow.cli.systems import check_numbers, read_measures, read_queries, read_runs, systems_of


def report(
    runs: list[str],
    *,
    answers: str,
    out: Replaced,
    pools: str | None = None,
    also: list[str] | None = None,
    dataset: str | None = None,
    train: str | None = None,
    queries: str | None = None,
    photos: str | None = None,
    bundle: str | None = None,
    plots: Filled | None = None,
    measures: list[str] = ["nDCG@5", "hit@1", "recall@5", "MRR"],  # noqa: B006 - shown in the help, never changed
    seed: int = 0,
) -> None:
    """Write one HTML file that says how good the runs are, where, and whether they differ.

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
        seed: Of held-out parts and resampling.
    """
    import numpy as np

    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.pools import read_pools
    from shopwindow.ranking.significance import compare
    from shopwindow.report.report import evaluation_report
    from shopwindow.report.sources import Outside, audit_set, provenance, thumbnails

    check_numbers(seed=seed)
    parsed, judged, groups = read_measures(measures), read_answers(answers), read_runs(runs)
    systems = systems_of(runs, groups, judged, parsed)
    candidates, audited = read_pools(pools) if pools else None, None
    if candidates is not None:
        audited = audit_set(
            candidates,
            judged,
            also=also or [],
            dataset=dataset,
            train=train,
            runs=[run for group in groups for run in group],
            measure=parsed[0],
            seed=seed,
        )
    files = [path for word in runs for path in word.split(",")]
    files += [path for path in (answers, pools, *(also or []), queries) if path]
    generator = np.random.default_rng(seed)
    comparisons = compare(systems[0], systems[1:], generator) if len(systems) > 1 else []
    outside = Outside(
        words=_words(queries or dataset),
        photo=thumbnails(photos),
        provenance=provenance(files, seed=seed, bundle=bundle),
    )
    page = evaluation_report(
        systems,
        comparisons,
        groups[0][0],
        judged,
        generator,
        pools=candidates,
        audited=audited,
        outside=outside,
    )
    page.write(out, plots=plots)
    compared, asked = counted(len(systems), "run"), counted(len(judged.queries), "query", "queries")
    say(f"{out}: {compared}, {asked}")


def _words(path: str | None) -> dict[str, str]:
    """The words of every query by its id, from a table or a prepared set."""
    if path is None:
        return {}
    ids, texts = read_queries(path)
    return dict(zip(map(str, ids.tolist()), texts, strict=True))
