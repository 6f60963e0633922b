"""The verb that searches. It calls `shopwindow.search` and prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shopwindow.cli.arguments import Replaced, at_least, only_with
from shopwindow.cli.console import AlignedTable, counted, print_json, remark, say
from shopwindow.files import STANDARD_STREAM, DataError, check_writable

if TYPE_CHECKING:
    from shopwindow.cli.catalogue import Asking
    from shopwindow.search.engine import SearchEngine
    from shopwindow.search.hits import Hit, PhotoQuery, ProductView


def search(
    index: str | None = None,
    words: list[str] | None = None,
    *,
    store: str | None = None,
    bundle: str | None = None,
    photo: str | None = None,
    share: float | None = None,
    top: int | None = None,
    exact: bool = False,
    hybrid: bool = False,
    labels: list[int] | None = None,
    where: list[str] | None = None,
    rerank: str | None = None,
    candidates: int | None = None,
    queries: str | None = None,
    run: Replaced | None = None,
    json: bool = False,
) -> None:
    """Find products for words, for a photo or for both; or rank the catalogue for many queries and write the run
    (`evaluate` measures it).

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`. With --store there is
            none, and all words are the query.
        words: What a shopper would type.
        store: A database that holds the products, instead of an index: postgresql://USER@HOST/DATABASE, lance://FOLDER,
            qdrant://HOST:6333 or milvus://HOST:19530, and ?table=NAME where the table is not called products.
        bundle: The model that made the vectors of --store.
        photo: A picture: finds what is like it, of an index made from photos.
        share: How much words count beside --photo: 0.5 when not given, 0 for the photo alone, 1 for the words alone.
        top: How many products; 10 for words, 100 of each query for --queries, when not given.
        exact: Compare with every product, also where the index is set to look into a part only.
        hybrid: Fuse with full text, where the index has any.
        labels: Only products with a region of one of these labels.
        where: Only products that pass these conditions: price<=20, price>=5, colour=red, colour=red|blue (in quotes);
            columns are those of `index make --columns`, and image_h and image_w (px).
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
    from shopwindow.cli.catalogue import DEPTH, Asking, engine_of

    at_least(1, top=top)
    if store is not None and index is not None:
        words, index = [index, *(words or ())], None
    asking = Asking.of(
        exact=exact, hybrid=hybrid, labels=labels, where=where, rerank=rerank, candidates=candidates
    )
    if bool(words or photo) == bool(queries):
        raise DataError("either words or --photo, or --queries")
    if not (words and photo):
        only_with("goes with words and --photo", share=share)
    if queries is not None:
        only_with("goes with words, not with --queries", json=json)
        if run is None:
            raise DataError("--queries needs it: where the run is written", field="--run")
        if run != STANDARD_STREAM:
            check_writable(run)
        engine = engine_of(index, store, bundle, quick=rerank is None)
        _write_run(engine, index or "store", queries, asking, top or DEPTH, run)
        return
    only_with("goes with --queries, not with words", run=run)
    text = " ".join(words or ())
    engine = engine_of(index, store, bundle, quick=photo is None and rerank is None)
    query = None if photo is None else _photo_query(engine, photo)
    weight = 0.5 if share is None else share
    hits = engine.search(text, photo=query, share=weight, k=top or 10, **asking.options())
    for says in _remarks(engine, text, asking, found=bool(hits)):
        remark(says)
    found = [(hit, engine.product(hit.product_id)) for hit in hits]
    _print_hits(found, with_values=bool(engine.columns), json=json)


def _remarks(engine: SearchEngine, words: str, asking: Asking, *, found: bool) -> list[str]:
    """What is to be said of words that the model does not know, and of nothing found."""
    unknown = engine.unknown_words(words)
    if words and len(unknown) == len(set(words.split())):
        where = f"; found by {'full text' if asking.hybrid else 'the photo'} alone" if found else ""
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


def _photo_query(engine: SearchEngine, photo: str) -> PhotoQuery:
    from shopwindow.vision.fetch import read_photo
    from shopwindow.vision.pictures import UnreadablePicture

    content = read_photo(photo)
    try:
        return engine.encode_photo(content)
    except UnreadablePicture as error:
        raise DataError(f"is no photo that can be read: {error.reason}", path=photo) from error


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
                    "title": view.title,
                    "score": hit.score,
                    "labels": list(dict.fromkeys(view.label_names)),
                    "values": dict(view.values),
                    "photo": _place(view),
                }
                for hit, view in found
            ]
        )
        return
    if not found:
        return
    valued = ["values"] if with_values else []
    titled = ["title"] if any(view.title for _, view in found) else []
    labels = [", ".join(dict.fromkeys(_things(view))) for _, view in found]
    labelled = ["labels"] if any(labels) else []
    table = AlignedTable(["rank", "product", *titled, "score", *labelled, *valued, "photo"])
    for (hit, view), shown in zip(found, labels, strict=True):
        values = [", ".join(f"{name} {_shown(value)}" for name, value in view.values.items()) for _ in valued]
        titles = [view.title or "" for _ in titled]
        # The name of the file: whole paths make a table unreadable, and --json has them.
        name = (_place(view) or "").rstrip("/").rpartition("/")[2]
        rest = (f"{hit.score:.4f}", *(shown for _ in labelled), *values, name)
        table.add_row(str(hit.rank), str(hit.product_id), *titles, *rest)
    table.show()


def _things(view: ProductView) -> list[str]:
    """The labels of a product's regions, without those that every encoded photo has."""
    from shopwindow.search.catalogue import PLACES

    return [name for name in view.label_names if name not in PLACES.values()]


def _write_run(engine: SearchEngine, name: str, queries: str, asking: Asking, depth: int, out: str) -> None:
    from shopwindow.cli.catalogue import rank_index, ranked_products
    from shopwindow.cli.systems import read_queries
    from shopwindow.ranking.runs import write_run

    ids, texts = read_queries(queries)
    found = rank_index(engine, name, ids, texts, asking, depth)
    if not len(found.queries):
        raise DataError("none of the queries finds anything: no run is written", path=queries)
    write_run(found, out)
    nothing = len(texts) - len(found.queries)
    if nothing:
        remark(f"{counted(nothing, 'query finds', 'queries find')} nothing: the run leaves them out")
    if out != STANDARD_STREAM:
        says = f"{out}: {counted(len(found.queries), 'query', 'queries')}"
        say(f"{says}, {ranked_products(engine, asking, depth)}")


def _place(view: ProductView) -> str | None:
    """Where the photo lies, a path or an address."""
    return view.photo_url if view.photo is None else str(view.photo)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"
