"""The verbs of an index: make, add, delete, compact, update, check. They call `shopwindow.search` and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shopwindow.cli.arguments import Replaced, at_least, numbers
from shopwindow.cli.console import counted, say
from shopwindow.cli.progress import counting, started
from shopwindow.cli.shards import ShardOptions
from shopwindow.cli.threads import take_threads
from shopwindow.files import DataError, check_replaceable, find_photo, real_path
from shopwindow.shards import forget

if TYPE_CHECKING:
    from shopwindow.model.bundle import Bundle
    from shopwindow.search.index import OpenIndex


def make(
    bundle: str,
    dataset: str,
    *,
    out: Replaced,
    photos: str | None = None,
    texts: str | None = None,
    labels: str | None = None,
    columns: str | None = None,
    title: str | None = None,
    link: str | None = None,
    currency: str | None = None,
    approximate_from: int | None = None,
    smooth: str | None = None,
    smooth_regions: str | None = None,
    no_kept_regions: bool = False,
    threads: int | None = None,
    shard: str | None = None,
    merge: bool = False,
    shards: int | None = None,
    over: str | None = None,
) -> None:
    """Encode the products of a dataset into an index to search; an interrupted run goes on where it was.

    Args:
        bundle: A model that `shopwindow train` wrote, or a folder of `shopwindow shop`.
        dataset: The products: a dataset, or a folder of `shopwindow shop`.
        out: The index to write, a directory.
        photos: The folder of the photos, PRODUCT_ID.jpg, .png or .webp, in subfolders too; the index remembers where
            it is.
        texts: A dataset whose pairs are known to match (training pairs): its queries become full text, beside titles.
        labels: The names of labels, a table `category_id category_name` with tabs.
        columns: A table of prices, sizes, colours ... to filter by: CSV, TSV or Parquet, first column product_id. When
            not given, the other columns of the dataset's products are taken.
        title: The column with the products' names. When not given, it is found by its usual names (title, name ...).
        link: The column with the addresses of the products' pages; else found by its usual names (link, url ...).
        currency: The column with the currency of prices, or a currency for all of them, such as EUR.
        approximate_from: Products from which on a search looks into a part of the index only: 50,000 when not given.
        smooth: Weights of each product's vector itself, its nearest, its second nearest ..., such as 0.8,0.2.
        smooth_regions: The same of each region among all of the dataset, before encoding, such as 0.7,0.2,0.1.
        no_kept_regions: Keep no regions for `search --rerank late`: a smaller index, slower re-ranking.
        threads: How many to compute with; as many as there are processors when not given.
        shard: Do one shard of the work alone, such as 3/10, beside OUT; slurm takes it from the task of a Slurm array.
        merge: Join the shards that --shard made, once all are there.
        shards: Into how many shards --over cuts the work; none given: by its size.
        over: Do the work in shards over several workers, then join them: processes, processes:N, ray or
            ray://HOST:PORT.
    """
    at_least(1, approximate_from=approximate_from)
    take_threads(threads)
    started("index", f"the products of {dataset} by {bundle}, into {out}")
    from shopwindow.search.building import APPROXIMATE_FROM, build_index

    smoothing = numbers(smooth_regions, field="--smooth-regions", such_as="0.7,0.2,0.1")
    kept = False if no_kept_regions else None
    options = ShardOptions(shard, merge, shards, over)
    folders = list[Path]()
    if options.given:
        folders = _in_shards(options, out, threads, bundle, dataset, smoothing, kept)
        if not folders:
            return
    roles = {"title": title, "link": link, "currency": currency}
    remarks: list[str] = []
    with counting("index", "products") as tell:
        build_index(
            bundle,
            dataset,
            out,
            approximate_from=approximate_from or APPROXIMATE_FROM,
            photos=photos,
            texts=texts,
            labels=labels,
            columns=columns,
            smooth=numbers(smooth, field="--smooth", such_as="0.8,0.2"),
            smooth_regions=smoothing,
            kept_regions=kept,
            text_side=_text_side_writer(),
            shown={role: name for role, name in roles.items() if name is not None},
            progress=tell,
            remark=remarks.append,
        )
    if folders:
        forget(folders)
    if photos is not None:
        remarks.append(_photo_count(out, photos))
    _print_index(out, remarks)


def _in_shards(
    options: ShardOptions,
    out: str,
    threads: int | None,
    bundle: str,
    dataset: str,
    smooth_regions: tuple[float, ...] | None,
    kept_regions: bool | None,
) -> list[Path]:
    """Encodes products in shards; their folders where all are encoded, laid where `build_index` takes them up."""
    from shopwindow.search.index import MANIFEST
    from shopwindow.search.product_shards import ProductWork

    check_replaceable(out, marker=MANIFEST)
    each = options.threads(threads)
    work = ProductWork(bundle, dataset, smooth_regions, kept_regions, each)
    folders = options.run("index", work, out, threads=each)
    if folders:
        work.join(folders, real_path(out))
    return folders


def _text_side_writer() -> Callable[[Bundle, Path], object] | None:
    """What writes the text side into an index; None where the extra `onnx` is missing."""
    if not all(map(find_spec, ("onnx", "onnxruntime"))):
        return None
    from shopwindow.export.onnx import write_text_side

    return write_text_side


def _photo_count(index: str, photos: str) -> str:
    """How many products of an index have a photo in a folder; a warning where none has."""
    from shopwindow.search.index import OpenIndex

    ids = [product for part in OpenIndex.open(index).parts for product in part.segment.columns.ids.tolist()]
    found = sum(find_photo(photos, product) is not None for product in ids)
    warning = "" if found else ": photos are named by product id, as in SKU-42.jpg"
    return f"{found:,} of {counted(len(ids), 'product')} have a photo in {photos}{warning}"


def add(
    index: Replaced,
    dataset: str,
    *,
    texts: str | None = None,
    columns: str | None = None,
    threads: int | None = None,
) -> None:
    """Add the products of a dataset to an index; those it holds already are replaced.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        dataset: The products: a dataset, or a folder of `shopwindow shop`.
        texts: A dataset whose pairs are known to match; products added without it have no full text.
        columns: A table of prices, sizes, colours ... of these products, first column product_id.
        threads: How many to compute with; as many as there are processors when not given.
    """
    take_threads(threads)
    started("index", f"the products of {dataset}, into {index}")
    from shopwindow.search.building import add_products

    remarks: list[str] = []
    with counting("index", "products") as tell:
        add_products(index, dataset, texts=texts, columns=columns, progress=tell, remark=remarks.append)
    _print_index(index, remarks)


def delete(index: Replaced, ids: list[str]) -> None:
    """Delete products from an index.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        ids: The ids of the products.
    """
    from shopwindow.search.building import delete_products
    from shopwindow.search.hits import UnknownProduct

    try:
        delete_products(index, ids)
    except UnknownProduct as error:
        raise DataError(str(error), path=index) from error
    _print_index(index)


def compact(index: Replaced) -> None:
    """Write all living products of an index into one segment.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
    """
    from shopwindow.search.building import compact_index

    compact_index(index)
    _print_index(index)


def update(index: Replaced, *, columns: str) -> None:
    """Give the products of an index new values in columns; nothing is encoded anew.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        columns: A table of prices, sizes, colours ...: CSV, TSV or Parquet, first column product_id.
    """
    from shopwindow.search.index_columns import update_columns

    remarks: list[str] = []
    update_columns(index, columns, remark=remarks.append)
    _print_index(index, remarks)


def check(index: str) -> None:
    """Ask the golden queries of an index again; exit 2 where the model or the index gives something else.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
    """
    from shopwindow.search.golden import check as check_golden
    from shopwindow.search.index import BUNDLE, OpenIndex
    from shopwindow.search.own_bundle import load_same_bundle

    opened = OpenIndex.open(index)
    verdict = check_golden(opened, load_same_bundle(Path(index) / BUNDLE, opened.manifest.bundle_hash))
    error = verdict.reranked_error
    reranked = "" if error is None else f", re-ranked scores within {error:.1g}"
    asked = counted(verdict.queries, "golden query", "golden queries")
    say(
        f"{asked}: vectors within {verdict.vector_error:.1g}, exact scores within "
        f"{verdict.score_error:.1g}{reranked}, recall@10 {verdict.recall:.3f} (was {verdict.recall_before:.3f})"
    )
    if verdict.problems:
        raise DataError("; ".join(verdict.problems), path=index)


def _print_index(index: str, remarks: Iterable[str] = ()) -> None:
    """Says what was remarked on the way, and what the index now holds."""
    from shopwindow.search.index import OpenIndex

    for line in (*remarks, *_summary(OpenIndex.open(index)), f"index: {index}"):
        say(line)


def _summary(index: OpenIndex) -> list[str]:
    """What an index holds, in a few lines."""
    from shopwindow.search.index import vector_bytes

    made = index.manifest
    deleted = sum(part.deleted is not None for part in made.parts)
    size = vector_bytes(made.hidden, approximate=any(part.segment.cells for part in index.parts))
    kept = made.kept_regions
    have = {
        "with a title": index.with_titles,
        "with known texts": index.with_texts,
        "with values to filter by": index.with_values,
    }
    gone = f" ({deleted} with deleted products)" if deleted else ""
    held = [f"{counted(len(index), 'product')} in {counted(len(made.parts), 'segment')}{gone}"]
    held += [f"{number:,} {what}" for what, number in have.items() if number]
    regions = f"; regions for --rerank {kept}: {index.kept_bytes:,.0f} bytes a product" if kept else ""
    lines = [
        ", ".join(held),
        f"vectors of {made.hidden:,} values, {size:,} bytes a product{regions}",
        f"recall@10 {made.recall.get('recall@10', math.nan):.3f} against exact search "
        f"({made.recall.get('queries', 0):.0f} queries tried)",
    ]
    if made.columns:
        columns = ", ".join(f"{name} ({kind}s)" for name, kind in made.columns.items())
        lines.append(f"columns to filter by: {columns}")
    if made.backbone:
        lines.append(f"photos are encoded by {made.backbone.get('name')}")
    return lines
