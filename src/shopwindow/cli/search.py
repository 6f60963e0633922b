"""The verbs of search on the command line: index and search. They call `shopwindow.search` and print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shopwindow.files import DataError

if TYPE_CHECKING:
    from shopwindow.search.conditions import Condition
    from shopwindow.search.engine import SearchEngine
    from shopwindow.search.index import Manifest
    from shopwindow.search.reranking import Reranking


def index(
    sources: list[str] | None = None,
    *,
    out: str | None = None,
    add: str | None = None,
    delete: str | None = None,
    compact: str | None = None,
    update: str | None = None,
    check: str | None = None,
    ids: list[int] | None = None,
    photos: str | None = None,
    texts: str | None = None,
    labels: str | None = None,
    columns: str | None = None,
    precision: Literal["float32", "int8", "binary"] = "float32",
    dimensions: int | None = None,
    rescore: Literal["float32", "int8", "none"] = "float32",
    approximate_from: int = 50_000,
    smooth: str | None = None,
    smooth_regions: str | None = None,
) -> None:
    """Make a catalogue searchable: encode its products and write an index; or change or check one.

    Without --add, --delete, --compact, --update or --check: `shopwindow index BUNDLE DATASET --out INDEX`. An
    interrupted run goes on where it was.

    Args:
        sources: BUNDLE DATASET: the model, a directory that `shopwindow train` wrote, and the products, a dataset. With
            --add only the dataset.
        out: The index to write, a directory.
        add: Add the products of the dataset to this index; those it holds already are replaced.
        delete: Delete the products of --ids from this index.
        compact: Write all living products of this index into one segment.
        update: Give the products of this index the values of --columns; nothing is encoded anew.
        check: Ask the golden queries of this index again; exit 2 where the model or the index gives something else.
        ids: Product ids to delete.
        photos: The folder of the photos, PRODUCT_ID.jpg or .png; the index remembers where it is.
        texts: A dataset whose pairs are known to match (training pairs): its queries become full text.
        labels: The names of labels, a table `category_id category_name` with tabs.
        columns: A table of prices, sizes, colours ... to filter by: CSV, TSV or Parquet, first column product_id.
        precision: How vectors are kept for scanning; int8 is a quarter of the bytes, binary a thirty-second.
        dimensions: Keep so many leading values of each vector for scanning; all when not given.
        rescore: With which vectors the best candidates of codes are scored anew.
        approximate_from: Products from which on a search looks into a part of the index only.
        smooth: Weights of each product's vector itself, its nearest, its second nearest ..., such as 0.8,0.2.
        smooth_regions: The same of each region among all of the dataset, before encoding, such as 0.7,0.2,0.1.
    """
    from shopwindow.cli.console import standard_output
    from shopwindow.cli.progress import progress, rate
    from shopwindow.search.building import add_products, build_index, compact_index, delete_products
    from shopwindow.search.hits import UnknownProduct
    from shopwindow.search.index_columns import update_columns
    from shopwindow.search.vectors import Coding

    asked = [name for name in (out, add, delete, compact, update, check) if name is not None]
    if len(asked) != 1:
        raise DataError(
            "one of --out, --add, --delete, --compact, --update, --check says what to do with which index"
        )
    target = asked[0]
    only_out = {"photos": photos, "labels": labels, "smooth": smooth, "smooth-regions": smooth_regions}
    misplaced = {
        "--ids goes with --delete": ids is not None and delete is None,
        "--texts goes with --out or --add": texts is not None and out is None and add is None,
        "--columns goes with --out, --add or --update": columns is not None
        and out is None
        and add is None
        and update is None,
        "--update needs --columns": update is not None and columns is None,
        **{
            f"--{name} goes with --out": value is not None and out is None for name, value in only_out.items()
        },
        "--delete, --compact, --update and --check take no other paths": bool(sources)
        and out is None
        and add is None,
    }
    for problem, found in misplaced.items():
        if found:
            raise DataError(problem)
    if check is not None:
        _check(check)
        return
    remarks: list[str] = []
    with progress("index") as show:
        says = rate(0.0, "products")

        def tell(done: int, total: int) -> None:
            show(float(done), float(total), says(float(done)))

        if add is not None:
            made = add_products(
                add,
                _exactly(sources, 1, "--add takes one DATASET")[0],
                texts=texts,
                columns=columns,
                progress=tell,
                remark=remarks.append,
            )
        elif delete is not None:
            try:
                made = delete_products(delete, ids or [])
            except UnknownProduct as error:
                raise DataError(str(error), path=delete) from error
        elif compact is not None:
            made = compact_index(compact)
        elif update is not None:
            made = update_columns(update, str(columns), remark=remarks.append)
        else:
            bundle, dataset = _exactly(
                sources, 2, "--out wants both: shopwindow index BUNDLE DATASET --out INDEX"
            )
            made = build_index(
                bundle,
                dataset,
                target,
                coding=Coding(precision, dimensions, rescore),
                approximate_from=approximate_from,
                photos=photos,
                texts=texts,
                labels=labels,
                columns=columns,
                smooth=_weights("--smooth", smooth),
                smooth_regions=_weights("--smooth-regions", smooth_regions),
                progress=tell,
                remark=remarks.append,
            )
    console = standard_output()
    for told in remarks:
        console.print(told, markup=False, soft_wrap=True)
    console.print(_summary(made), markup=False, soft_wrap=True)
    console.print(f"index: {target}", markup=False, soft_wrap=True)


def search(
    index: str,
    words: list[str] | None = None,
    *,
    top: int = 10,
    exact: bool = False,
    hybrid: bool = False,
    labels: list[int] | None = None,
    where: list[str] | None = None,
    rerank: str | None = None,
    candidates: int = 50,
    queries: str | None = None,
    answers: str | None = None,
    measures: list[str] | None = None,
    run: str | None = None,
    json: bool = False,
) -> None:
    """Find products for words; or for all queries of a dataset, and say how good the findings are.

    Args:
        index: The index, a directory that `shopwindow index` wrote.
        words: What a shopper would type.
        top: How many products.
        exact: Compare with every product, also where the index is set to look into a part only.
        hybrid: Fuse with full text, where the index has any (for words only).
        labels: Only products with a region of one of these labels.
        where: Only products that pass these conditions: price<=20, price>=5, colour=red, colour=red|blue (in quotes);
            columns are those of `index --columns`, and image_h and image_w (px).
        rerank: How the first products are scored anew: late (words against regions, of a model that has it; needs the
            dataset that the index was made from), or a pool operator: smooth:0.7,0.2,0.1, expand:5,3,
            reciprocal:20,6,0.3; a name alone has these numbers. The scores are those of `rank` for the same products.
        candidates: How many first products are scored anew; as many as --top where that is more.
        queries: A dataset whose queries are asked of the whole catalogue, instead of words.
        answers: Their right products (competition JSON or TREC qrels): prints what the rankings are worth.
        measures: Which measures; recall@10, recall@100 (as far as --top goes), MRR and nDCG when not given.
        run: Where to write the rankings of --queries, in TREC form.
        json: Prints JSON.
    """
    from shopwindow.search.engine import SearchEngine
    from shopwindow.search.hits import Filter

    if bool(words) == bool(queries):
        raise DataError("either words or --queries")
    if not queries:
        for option, value in (("--answers", answers), ("--measures", measures), ("--run", run)):
            if value is not None:
                raise DataError("goes with --queries, not with words", field=option)
    again = None if rerank is None else _reranking(rerank)
    engine = SearchEngine.open(index)
    chosen = Filter(frozenset(labels or ()), _conditions(where or []))
    if not words:
        for option, given in (("--hybrid", hybrid), ("--labels", labels), ("--where", where)):
            if given:
                raise DataError("goes with words, not with --queries", field=option)
        asked = (str(queries), answers, measures, run)
        _search_queries(engine, *asked, top=top, exact=exact, rerank=again, candidates=candidates, json=json)
        return
    hits = engine.search(
        " ".join(words), k=top, where=chosen, exact=exact, hybrid=hybrid, rerank=again, candidates=candidates
    )
    views = [engine.product(hit.product_id) for hit in hits]
    if json:
        from shopwindow.cli.console import print_json

        print_json(
            [
                {
                    "rank": hit.rank,
                    "product_id": hit.product_id,
                    "score": hit.score,
                    "labels": list(dict.fromkeys(view.label_names)),
                    "values": dict(view.values),
                    "photo": None if view.photo is None else str(view.photo),
                }
                for hit, view in zip(hits, views, strict=True)
            ]
        )
        return
    from shopwindow.cli.console import aligned_table, standard_output

    valued = ["values"] if engine.columns else []
    table = aligned_table(["rank", "product", "score", "labels", *valued, "photo"])
    for hit, view in zip(hits, views, strict=True):
        shown = ", ".join(dict.fromkeys(view.label_names))
        values = ", ".join(f"{name} {_shown(value)}" for name, value in view.values.items())
        photo = "" if view.photo is None else str(view.photo)
        table.add_row(
            str(hit.rank),
            str(hit.product_id),
            f"{hit.score:.4f}",
            shown,
            *([values] if valued else []),
            photo,
        )
    standard_output().print(table)


def _search_queries(
    engine: SearchEngine,
    queries: str,
    answers: str | None,
    measures: list[str] | None,
    run: str | None,
    *,
    top: int,
    exact: bool,
    rerank: Reranking | None,
    candidates: int,
    json: bool,
) -> None:
    from shopwindow.cli.console import aligned_table, print_json, standard_output
    from shopwindow.data.dataset import Dataset
    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.measures import Measure, evaluate
    from shopwindow.ranking.runs import write_run
    from shopwindow.search.evaluation import default_measures, rank_catalogue

    if answers is None and run is None:
        raise DataError("--queries needs --answers to measure the rankings, --run to write them, or both")
    dataset = Dataset(queries)
    taken = tuple(map(Measure.parse, measures)) if measures else default_measures(top)
    found = rank_catalogue(
        engine,
        dataset.query_ids,
        dataset.query_texts,
        k=top,
        exact=exact,
        rerank=rerank,
        candidates=candidates,
    )
    if run is not None:
        write_run(found, run)
    if answers is None:
        return
    evaluation = evaluate(found, read_answers(answers), taken)
    means = {str(measure): evaluation.mean(measure) for measure in taken}
    if json:
        print_json(
            {"queries": len(evaluation.queries), "catalogue": engine.stats()["products"], "scores": means}
        )
        return
    table = aligned_table(["measure", "mean", "se"])
    for measure in taken:
        table.add_row(
            str(measure), f"{evaluation.mean(measure):.4f}", f"{evaluation.standard_error(measure):.4f}"
        )
    standard_output().print(table)


def _check(index: str) -> None:
    from pathlib import Path

    from shopwindow.cli.console import standard_output
    from shopwindow.search.bundled import load_same_bundle
    from shopwindow.search.golden import check
    from shopwindow.search.index import BUNDLE, OpenIndex

    opened = OpenIndex.open(index)
    verdict = check(opened, load_same_bundle(Path(index) / BUNDLE, opened.manifest.bundle_hash))
    standard_output().print(
        f"{verdict.queries} golden queries: vectors within {verdict.vector_error:.1g}, exact scores within "
        f"{verdict.score_error:.1g}, recall@10 {verdict.recall:.3f} (was {verdict.recall_before:.3f})",
        markup=False,
        soft_wrap=True,
    )
    if verdict.problems:
        raise DataError("; ".join(verdict.problems), path=index)


def _summary(made: Manifest) -> str:
    deleted = sum(part.deleted is not None for part in made.parts)
    code, more = made.coding.bytes_per_product(made.hidden)
    columns = ", ".join(f"{name} ({kind}s)" for name, kind in made.columns.items())
    kept = f"{made.coding.precision}, {made.coding.dimensions or made.hidden} of {made.hidden} values"
    return (
        f"{sum(part.products for part in made.parts):,} products in {len(made.parts)} segments"
        f"{f' ({deleted} with deleted products)' if deleted else ''}; {kept}; {code} bytes a product"
        f"{f' and {more} for re-scoring' if more else ''}; recall@10 {made.recall['recall@10']:.3f}"
        f" of {made.recall['queries']:.0f} queries against exact search"
        f"{f'; columns {columns}' if columns else ''}"
    )


def _exactly(sources: list[str] | None, count: int, says: str) -> list[str]:
    found = sources or []
    if len(found) != count:
        raise DataError(f"{len(found)} paths given; {says}")
    return found


def _reranking(text: str) -> Reranking:
    from shopwindow.search.reranking import parse_reranking

    try:
        return parse_reranking(text)
    except ValueError as error:
        raise DataError(str(error), field="--rerank") from error


def _conditions(texts: list[str]) -> tuple[Condition, ...]:
    from shopwindow.search.conditions import parse_conditions

    try:
        return parse_conditions(texts)
    except ValueError as error:
        raise DataError(str(error), field="--where") from error


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"


def _weights(option: str, text: str | None) -> tuple[float, ...] | None:
    import math

    if text is None:
        return None
    try:
        weights = tuple(float(word) for word in text.split(","))
    except ValueError:
        weights = ()
    if not weights or not all(math.isfinite(weight) for weight in weights):
        raise DataError(f"{text!r}, wanted numbers with commas such as 0.8,0.2", field=option)
    return weights
