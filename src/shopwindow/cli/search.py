"""The verbs of search on the command line: index and search. They call `shopwindow.search` and print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shopwindow.cli.arguments import at_least, only_with
from shopwindow.cli.console import AlignedTable, counted, print_json, remark, standard_output
from shopwindow.files import STANDARD_STREAM, DataError, check_writable

if TYPE_CHECKING:
    from shopwindow.cli.catalogue import Asking
    from shopwindow.search.engine import SearchEngine
    from shopwindow.search.hits import Hit, ProductView
    from shopwindow.search.index import OpenIndex


def index(
    sources: list[str] | None = None,
    *,
    out: str | None = None,
    add: str | None = None,
    delete: str | None = None,
    compact: str | None = None,
    update: str | None = None,
    check: str | None = None,
    ids: list[str] | None = None,
    photos: str | None = None,
    texts: str | None = None,
    labels: str | None = None,
    columns: str | None = None,
    approximate_from: int | None = None,
    smooth: str | None = None,
    smooth_regions: str | None = None,
    no_kept_regions: bool = False,
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
        texts: A dataset whose pairs are known to match (training pairs): its queries become full text. Products added
            without it have none.
        labels: The names of labels, a table `category_id category_name` with tabs.
        columns: A table of prices, sizes, colours ... to filter by: CSV, TSV or Parquet, first column product_id.
        approximate_from: Products from which on a search looks into a part of the index only: 50,000 when not given.
        smooth: Weights of each product's vector itself, its nearest, its second nearest ..., such as 0.8,0.2.
        smooth_regions: The same of each region among all of the dataset, before encoding, such as 0.7,0.2,0.1.
        no_kept_regions: Keep no regions for `search --rerank` by the model itself (of a model with late interaction):
            a smaller index, slower re-ranking, and only while the dataset is there.
    """
    from shopwindow.cli.progress import progress, rate
    from shopwindow.search.building import (
        APPROXIMATE_FROM,
        add_products,
        build_index,
        compact_index,
        delete_products,
    )
    from shopwindow.search.hits import UnknownProduct
    from shopwindow.search.index_columns import update_columns

    asked = [name for name in (out, add, delete, compact, update, check) if name is not None]
    if len(asked) != 1:
        raise DataError(
            "one of --out, --add, --delete, --compact, --update, --check says what to do with which index"
        )
    target = asked[0]
    if out is None:
        only_with(
            "goes with --out", photos=photos, labels=labels, smooth=smooth, smooth_regions=smooth_regions
        )
        only_with(
            "goes with --out: an index keeps what it was made with",
            approximate_from=approximate_from,
            no_kept_regions=no_kept_regions,
        )
    if delete is None:
        only_with("goes with --delete", ids=ids)
    if out is None and add is None:
        only_with("goes with --out or --add", texts=texts)
        if sources:
            raise DataError("--delete, --compact, --update and --check take no other paths")
        if update is None:
            only_with("goes with --out, --add or --update", columns=columns)
    if update is not None and columns is None:
        raise DataError("--update needs it", field="--columns")
    at_least(1, approximate_from=approximate_from)
    if check is not None:
        _check(check)
        return
    remarks: list[str] = []
    with progress("index") as show:
        says = rate(0.0, "products")

        def tell(done: int, total: int) -> None:
            show(float(done), float(total), says(float(done)))

        if add is not None:
            dataset = _exactly(sources, 1, "--add takes one DATASET")[0]
            add_products(add, dataset, texts=texts, columns=columns, progress=tell, remark=remarks.append)
        elif delete is not None:
            try:
                delete_products(delete, ids or [])
            except UnknownProduct as error:
                raise DataError(str(error), path=delete) from error
        elif compact is not None:
            compact_index(compact)
        elif update is not None:
            update_columns(update, str(columns), remark=remarks.append)
        else:
            bundle, dataset = _exactly(
                sources, 2, "--out wants both: shopwindow index BUNDLE DATASET --out INDEX"
            )
            build_index(
                bundle,
                dataset,
                target,
                approximate_from=approximate_from or APPROXIMATE_FROM,
                photos=photos,
                texts=texts,
                labels=labels,
                columns=columns,
                smooth=_weights("--smooth", smooth),
                smooth_regions=_weights("--smooth-regions", smooth_regions),
                kept_regions=False if no_kept_regions else None,
                progress=tell,
                remark=remarks.append,
            )
    from shopwindow.search.index import OpenIndex

    console = standard_output()
    for told in remarks:
        console.print(told, soft_wrap=True)
    console.print(_summary(OpenIndex.open(target)), soft_wrap=True)
    console.print(f"index: {target}", soft_wrap=True)


def search(
    index: str,
    words: list[str] | None = None,
    *,
    top: int | None = None,
    exact: bool = False,
    hybrid: bool = False,
    labels: list[int] | None = None,
    where: list[str] | None = None,
    rerank: str | None = None,
    candidates: int | None = None,
    queries: str | None = None,
    run: str | None = None,
    json: bool = False,
) -> None:
    """Find products for words; or rank the catalogue for many queries and write the run (`evaluate` measures it).

    Args:
        index: The index, a directory that `shopwindow index` wrote.
        words: What a shopper would type.
        top: How many products; 10 for words, 100 of each query for --queries, when not given.
        exact: Compare with every product, also where the index is set to look into a part only.
        hybrid: Fuse with full text, where the index has any.
        labels: Only products with a region of one of these labels.
        where: Only products that pass these conditions: price<=20, price>=5, colour=red, colour=red|blue (in quotes);
            columns are those of `index --columns`, and image_h and image_w (px).
        rerank: How the first products are scored anew: late (words against regions, of a model that has it; where the
            index keeps no regions it needs the dataset that it was made from), or a pool operator:
            smooth:0.7,0.2,0.1, expand:5,3, reciprocal:20,6,0.3; a name alone has these numbers. The scores are those
            of `rank` for the same products.
        candidates: How many first products --rerank scores anew: 50 when not given; as many as --top where that is
            more.
        queries: Queries that are asked one by one, instead of words: a dataset, or a table `query_id<TAB>query`.
        run: Where to write the rankings of --queries, in TREC form; gzipped when it ends in .gz; - is standard output.
        json: Prints the products as JSON.
    """
    from shopwindow.cli.catalogue import DEPTH, Asking

    at_least(1, top=top)
    asking = Asking.of(
        exact=exact, hybrid=hybrid, labels=labels, where=where, rerank=rerank, candidates=candidates
    )
    if bool(words) == bool(queries):
        raise DataError("either words or --queries")
    if queries is not None:
        only_with("goes with words, not with --queries", json=json)
        if run is None:
            raise DataError("--queries needs it: where the run is written", field="--run")
        _write_run(index, queries, asking, top or DEPTH, run)
        return
    only_with("goes with --queries, not with words", run=run)
    from shopwindow.search.engine import SearchEngine

    engine, text = SearchEngine.open(index), " ".join(words or ())
    hits = engine.search(text, k=top or 10, **asking.options())
    for says in _remarks(engine, text, asking, found=bool(hits)):
        remark(says)
    found = [(hit, engine.product(hit.product_id)) for hit in hits]
    _print_hits(found, with_values=bool(engine.columns), json=json)


def _remarks(engine: SearchEngine, words: str, asking: Asking, *, found: bool) -> list[str]:
    """What is to be said of words that the model does not know, and of nothing found."""
    unknown = engine.unknown_words(words)
    if len(unknown) == len(set(words.split())):
        where = "; found by full text alone" if found else ""
        return [f"no word of the query is known to the model: {' '.join(unknown)}{where}"]
    says = [f"not known to the model: {' '.join(unknown)}"] if unknown else []
    if not found and asking.conditions:
        says.append(
            "no product passes --labels and --where" if asking.labels else "no product passes --where"
        )
        says += _absent_words(engine, asking)
    elif not found and asking.labels:
        says.append(f"no product has a region of label {' or '.join(map(str, asking.labels))}")
    return says


def _absent_words(engine: SearchEngine, asking: Asking) -> list[str]:
    """Of which columns of words no product has any of the asked ones, and what there is."""
    from shopwindow.search.conditions import nearest_words

    says = []
    for condition in asking.conditions:
        words = engine.words_of(condition.column)
        if words and not set(words) & set(condition.values):
            near = nearest_words(condition.values, words)
            more = ", ..." if len(words) > len(near) else ""
            says.append(f"no product has {condition}; words of {condition.column}: {', '.join(near)}{more}")
    return says


def _print_hits(found: list[tuple[Hit, ProductView]], *, with_values: bool, json: bool) -> None:
    if json:
        print_json(
            [
                {
                    "rank": hit.rank,
                    "product_id": str(hit.product_id),
                    "score": hit.score,
                    "labels": list(dict.fromkeys(view.label_names)),
                    "values": dict(view.values),
                    "photo": None if view.photo is None else str(view.photo),
                }
                for hit, view in found
            ]
        )
        return
    if not found:
        return
    valued = ["values"] if with_values else []
    table = AlignedTable(["rank", "product", "score", "labels", *valued, "photo"])
    for hit, view in found:
        shown = ", ".join(dict.fromkeys(view.label_names))
        photo = "" if view.photo is None else str(view.photo)
        values = [", ".join(f"{name} {_shown(value)}" for name, value in view.values.items()) for _ in valued]
        table.add_row(str(hit.rank), str(hit.product_id), f"{hit.score:.4f}", shown, *values, photo)
    standard_output().print(table)


def _write_run(index: str, queries: str, asking: Asking, depth: int, out: str) -> None:
    from shopwindow.cli.catalogue import rank_index, ranked_products
    from shopwindow.cli.systems import read_queries
    from shopwindow.ranking.runs import write_run
    from shopwindow.search.engine import SearchEngine

    if out != STANDARD_STREAM:
        check_writable(out)
    engine = SearchEngine.open(index)
    ids, texts = read_queries(queries)
    found = rank_index(engine, index, ids, texts, asking, depth)
    if not len(found.queries):
        raise DataError("none of the queries finds anything: no run is written", path=queries)
    write_run(found, out)
    nothing = len(texts) - len(found.queries)
    if nothing:
        remark(f"{counted(nothing, 'query finds', 'queries find')} nothing: the run leaves them out")
    if out != STANDARD_STREAM:
        says = f"{out}: {counted(len(found.queries), 'query', 'queries')}"
        standard_output().print(f"{says}, {ranked_products(engine, asking, depth)}", soft_wrap=True)


def _check(index: str) -> None:
    from pathlib import Path

    from shopwindow.search.bundled import load_same_bundle
    from shopwindow.search.golden import check
    from shopwindow.search.index import BUNDLE, OpenIndex

    opened = OpenIndex.open(index)
    verdict = check(opened, load_same_bundle(Path(index) / BUNDLE, opened.manifest.bundle_hash))
    error = verdict.reranked_error
    reranked = "" if error is None else f", re-ranked scores within {error:.1g}"
    asked = counted(verdict.queries, "golden query", "golden queries")
    standard_output().print(
        f"{asked}: vectors within {verdict.vector_error:.1g}, exact scores within "
        f"{verdict.score_error:.1g}{reranked}, recall@10 {verdict.recall:.3f} (was {verdict.recall_before:.3f})",
        soft_wrap=True,
    )
    if verdict.problems:
        raise DataError("; ".join(verdict.problems), path=index)


def _summary(index: OpenIndex) -> str:
    from shopwindow.search.index import vector_bytes

    made = index.manifest
    deleted = sum(part.deleted is not None for part in made.parts)
    approximate = any(part.segment.cells for part in index.parts)
    size = vector_bytes(made.hidden, approximate=approximate)
    columns = ", ".join(f"{name} ({kind}s)" for name, kind in made.columns.items())
    valued = f", {index.with_values:,} with values" if made.columns else ""
    kept_for = made.kept_regions
    regions = "" if kept_for is None else f" and {index.kept_bytes:,.0f} of regions for --rerank {kept_for}"
    return (
        f"{counted(len(index), 'product')} in {counted(len(made.parts), 'segment')}"
        f"{f' ({deleted} with deleted products)' if deleted else ''}"
        f"{f', {index.with_texts:,} with texts' if index.has_texts else ''}{valued}; "
        f"{made.hidden} values, {size:,} bytes a product{regions}; recall@10 {made.recall['recall@10']:.3f}"
        f" of {made.recall['queries']:.0f} queries against exact search"
        f"{f'; columns {columns}' if columns else ''}"
    )


def _exactly(sources: list[str] | None, count: int, says: str) -> list[str]:
    found = sources or []
    if len(found) != count:
        raise DataError(f"{len(found)} paths given; {says}")
    return found


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
