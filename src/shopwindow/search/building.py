"""How is an index made, and how does it change? Build, add, replace, delete, compact: each a new whole state.

Encoding products is the long part: what a killed run encoded is not encoded again (`encoding.py`).
Every change takes the writer's lock of `whole_directory`, so a second indexer is refused. Knows no query but the
golden ones.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError, check_photo_folder, real_path, text_lines, whole_directory
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import check_features
from shopwindow.ranking.operators import check_weights
from shopwindow.search.arrays import bounds_of
from shopwindow.search.attributes import Attributes, nothing_known
from shopwindow.search.catalogue import PLACES, catalogue_of, columns_of
from shopwindow.search.encoding import Encoded, Progress, encode, forget_encoded
from shopwindow.search.golden import AT, WANTED_RECALL, Golden, ask_exactly, choose_texts, recall
from shopwindow.search.hits import ProductId, UnknownProduct
from shopwindow.search.index import (
    BUNDLE,
    MANIFEST,
    SEGMENTS,
    TEXT_SIDE,
    Manifest,
    OpenIndex,
    Part,
    Source,
    add_deleted,
    as_ids,
    content_name,
    fingerprint,
    keep,
    named_by_content,
)
from shopwindow.search.index_columns import Remark, values_of, values_to_add, with_columns
from shopwindow.search.kept_regions import KeptRegions
from shopwindow.search.own_bundle import copy_bundle, load_bundle, load_same_bundle
from shopwindow.search.product_table import read_product_table
from shopwindow.search.roles import check_roles
from shopwindow.search.segment import Columns, write_segment
from shopwindow.search.smoothing import smooth_catalogue
from shopwindow.search.texts import TEXTS_FILE, write_texts

APPROXIMATE_FROM: Final = 50_000
"""Products from which on a segment gets cells: exact search takes some 5 ms there (docs/results.md)."""
_PROBES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_SEED: Final = 0


def build_index(
    bundle: str | Path,
    dataset: str | Path,
    out: str | Path,
    *,
    approximate_from: int = APPROXIMATE_FROM,
    photos: str | Path | None = None,
    texts: str | Path | None = None,
    labels: str | Path | None = None,
    columns: str | Path | None = None,
    smooth: tuple[float, ...] | None = None,
    smooth_regions: tuple[float, ...] | None = None,
    kept_regions: bool | None = None,
    text_side: Callable[[Bundle, Path], object] | None = None,
    shown: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    remark: Remark | None = None,
) -> Manifest:
    """Makes an index of all products of a dataset, in place of an older one at `out`.

    `photos`: the folder of PRODUCT_ID.jpg or .png; the index keeps its path. `texts`: a dataset whose pairs are
    known to match; their queries become the products' full texts. `labels`: the competition's table of label names.
    `columns`: a table of prices, colours ... (`product_table.py`). A remark tells what does not match. Without it
    those of the dataset's catalogue are taken; its titles are full text, its photos are shown. `smooth`: weights of
    each vector itself, its nearest, its second nearest ...; `smooth_regions`: the same of regions, before they are
    encoded. `kept_regions`: whether regions are kept for the model's own reranker; None: where it has one.
    `text_side`: fills a folder with the bundle's exported text side (`export.onnx.write_text_side`), by which searches
    then need no torch; one that fails with a ValueError, or for want of a library, is left out with a remark.
    `shown`: the columns that say `title`, `link` and `currency`; else they are found by their usual names (`roles.py`).

    Raises: DataError for a broken bundle, dataset or table, a table of other products only, a `shown` of no column, no
    folder `photos`, other files at `out`, a second indexer, a full disk, a vector that is not finite.
    ValueError where features do not fit the model, or `kept_regions` is asked of one without a reranker of its own.
    """
    opened, bundle_hash = load_bundle(Path(bundle))
    products = Dataset(dataset)
    check_features(opened.model, products)
    _check_settings(photos, smooth, smooth_regions)
    manifest = Manifest(
        bundle_hash=bundle_hash,
        hidden=opened.model.dimensions,
        unit=opened.model.normalise,
        approximate_from=approximate_from,
        photos=None if photos is None else str(real_path(photos)),
        label_names=_label_names(opened, labels),
        smooth=smooth,
        smooth_regions=smooth_regions,
        kept_regions=kept_for(opened, kept_regions),
        backbone=opened.backbone,
    )
    table = columns_of(products, {}, remark) if columns is None else read_product_table(columns)
    values = None if table is None else values_of(table, products.product_ids, remark)
    known = _Known(None if texts is None else known_texts(Dataset(texts)), values, catalogue_of(products))
    manifest = _with_shown(manifest, values, shown or {}, dataset if columns is None else columns)
    out = real_path(out)
    with whole_directory(out, marker=MANIFEST) as folder:
        copy_bundle(Path(bundle), folder / BUNDLE)
        if text_side is not None:
            name = _write_text_side(text_side, opened, folder / TEXT_SIDE, remark)
            manifest = dataclasses.replace(manifest, text_side=name)
        (folder / SEGMENTS).mkdir()
        manifest = _add_segment(folder, out, manifest, opened, products, known, progress)
        asked = choose_texts(products.query_texts, np.random.default_rng(_SEED))
        manifest = _finish(folder, manifest, asked, opened.encode_texts(asked), bundle=opened)
    forget_encoded(out)
    return manifest


def _check_settings(photos: str | Path | None, *weights: tuple[float, ...] | None) -> None:
    """Raises: DataError as `check_photo_folder`, ValueError for weights that are none."""
    if photos is not None:
        check_photo_folder(photos)
    for some in weights:
        if some is not None:
            check_weights(some)


def _label_names(bundle: Bundle, labels: str | Path | None) -> dict[int, str]:
    return (PLACES if bundle.backbone else {}) | ({} if labels is None else read_label_names(labels))


def _with_shown(
    manifest: Manifest, values: Attributes | None, shown: Mapping[str, str], path: str | Path
) -> Manifest:
    """With the columns of the values, and what they are shown as. Raises: DataError for a `shown` of no column."""
    kinds = {} if values is None else values.kinds
    try:
        check_roles(kinds, shown)
    except ValueError as error:
        raise DataError(str(error), path=path) from error
    return dataclasses.replace(manifest, columns=kinds, shown=dict(shown))


def add_products(
    index: str | Path,
    dataset: str | Path,
    *,
    texts: str | Path | None = None,
    columns: str | Path | None = None,
    progress: Progress | None = None,
    remark: Remark | None = None,
) -> Manifest:
    """Adds the products of a dataset to an index; those it holds already are replaced.

    `columns`: as of `build_index`; may name new columns. A replaced product keeps the values it had, but in the table's
    columns takes those of its row. Without it, a remark says how many products then have no values.
    Raises: as `build_index`, and DataError where a column holds numbers in the index and words in the table, or the
    other way round.
    """
    index = real_path(index)
    products = Dataset(dataset)
    texts_of_products = None if texts is None else known_texts(Dataset(texts))
    held = Manifest.read(index)
    table = (
        columns_of(products, held.columns, remark)
        if columns is None
        else read_product_table(columns, kinds=held.columns)
    )
    with whole_directory(index, marker=MANIFEST) as folder:
        before = OpenIndex.open(index)
        opened = load_same_bundle(index / BUNDLE, before.manifest.bundle_hash)
        check_features(opened.model, products)
        keep(index, folder, before.manifest)
        manifest = _without(folder, before, products.product_ids)
        if table is not None:
            manifest = with_columns(manifest, table.values, table.path)
        values = values_to_add(before, table, products.product_ids, remark)
        known = _Known(texts_of_products, values, catalogue_of(products))
        manifest = _add_segment(folder, index, manifest, opened, products, known, progress)
        _finish_again(folder, index, manifest, opened)
    forget_encoded(index)
    return Manifest.read(index)


def delete_products(index: str | Path, product_ids: Sequence[ProductId]) -> Manifest:
    """Deletes products from an index.

    Raises: UnknownProduct for an id that it does not hold: nothing is deleted then. DataError as `build_index`, or
    where no product would be left. ValueError for no ids.
    """
    if not len(product_ids):
        raise ValueError("no product ids to delete")
    index = real_path(index)
    Manifest.read(index)
    with whole_directory(index, marker=MANIFEST) as folder:
        before = OpenIndex.open(index)
        gone = as_ids(product_ids)
        held = before.holds(gone)
        if not held.all():
            raise UnknownProduct(product_ids[int(np.argmin(held))])
        keep(index, folder, before.manifest)
        manifest = _without(folder, before, gone)
        if len(np.unique(gone)) == len(before):
            raise DataError("no product would be left", path=index)
        _finish_again(folder, index, manifest)
    return Manifest.read(index)


def compact_index(index: str | Path) -> Manifest:
    """Writes all living products of an index into one segment, from the finest vectors it keeps."""
    index = real_path(index)
    Manifest.read(index)
    with whole_directory(index, marker=MANIFEST) as folder:
        before = OpenIndex.open(index)
        keep(index, folder, dataclasses.replace(before.manifest, parts=()))
        rows = [part.living_rows for part in before.parts]
        pairs = list(zip(before.parts, rows, strict=True))
        columns = Columns.join([part.segment.columns.take(chosen) for part, chosen in pairs])
        vectors = np.concatenate([part.segment.vectors(chosen) for part, chosen in pairs])
        known = {
            str(product_id): list(part.texts.of(product_id))
            for part, chosen in pairs
            if part.texts is not None
            for product_id in part.segment.columns.ids[chosen].tolist()
        }
        values = _joined([part.segment.attributes for part in before.parts], rows)
        catalogue = _joined([part.segment.catalogue for part in before.parts], rows)
        kept = [part.segment.kept.take(chosen) for part, chosen in pairs if part.segment.kept is not None]
        encoded = Encoded(vectors, KeptRegions.join(kept) if kept else None)
        manifest = dataclasses.replace(before.manifest, parts=())
        manifest = _write_part(folder, manifest, encoded, columns, _Known(known or None, values, catalogue))
        _finish_again(folder, index, manifest)
    return Manifest.read(index)


@dataclass(frozen=True)
class _Known:
    """What is known of products besides vectors and regions: texts by id, and by row values and catalogue."""

    texts: dict[str, list[str]] | None
    values: Attributes | None
    catalogue: Attributes | None


def known_texts(dataset: Dataset) -> dict[str, list[str]]:
    """The different query texts of each product's training pairs by its id as text, in the order met."""
    texts: dict[str, dict[str, None]] = {}
    queries = dataset.query_texts
    ids = np.asarray(dataset.product_ids).astype(np.str_)[dataset.pair_products]
    chosen = dataset.pair_training
    for product, query in zip(ids[chosen].tolist(), dataset.pair_queries[chosen].tolist(), strict=True):
        texts.setdefault(product, {})[queries[query].replace("\n", " ")] = None
    return {product: list(some) for product, some in texts.items()}


def read_label_names(path: str | Path) -> dict[int, str]:
    """The names of labels from a table `category_id category_name` with tabs and a header line.

    Raises: DataError naming the line that is none.
    """
    names = {}
    for number, line in text_lines(path):
        label, tab, name = line.partition("\t")
        if number == 1 or not line:
            continue
        if not tab or not label.strip().isdecimal():
            raise DataError("a number, a tab and a name were wanted", path=path, line=number)
        names[int(label)] = name.strip()
    return names


def _write_text_side(
    write: Callable[[Bundle, Path], object], bundle: Bundle, folder: Path, remark: Remark | None
) -> str | None:
    """The name of the exported text side by its content; None, and no folder, where it cannot be exported."""
    folder.mkdir()
    try:
        write(bundle, folder)
    except (ImportError, ValueError) as error:
        shutil.rmtree(folder)
        if remark is not None:
            remark(f"searches will load torch: {error}")
        return None
    return content_name(folder)


def kept_for(bundle: Bundle, asked: bool | None) -> str | None:
    """The reranker for which an index keeps regions."""
    own = bundle.reranker
    if asked is not None and own is None:
        raise ValueError("kept regions: this model has no reranker of its own")
    return None if own is None or asked is False else own.name


def _add_segment(
    folder: Path,
    out: Path,
    manifest: Manifest,
    bundle: Bundle,
    dataset: Dataset,
    known: _Known,
    progress: Progress | None,
) -> Manifest:
    encoded = encode(out, manifest, bundle, dataset, progress)
    if manifest.smooth is not None:
        vectors = smooth_catalogue(encoded.vectors, manifest.smooth, unit=manifest.unit)
        encoded = dataclasses.replace(encoded, vectors=vectors)
    source = Source(str(dataset.path.resolve()), dataset.content_hash)
    sources = manifest.sources if source in manifest.sources else (*manifest.sources, source)
    manifest = dataclasses.replace(manifest, sources=sources)
    columns = _columns(dataset, sources.index(source))
    return _write_part(folder, manifest, encoded, columns, known)


def _write_part(
    folder: Path, manifest: Manifest, encoded: Encoded, columns: Columns, known: _Known
) -> Manifest:
    written = folder / SEGMENTS / ".new"
    written.mkdir()
    write_segment(
        written,
        encoded.vectors,
        columns,
        approximate=len(columns.ids) >= manifest.approximate_from,
        attributes=known.values,
        kept=encoded.kept,
        catalogue=known.catalogue,
        backbone=fingerprint(manifest.backbone),
    )
    if known.texts is not None or known.catalogue is not None:
        order, texts = np.argsort(columns.ids, kind="stable"), known.texts or {}
        titles = None if known.catalogue is None else known.catalogue.take(order).columns["title"].to_pylist()
        ids = columns.ids[order].tolist()
        write_texts(written / TEXTS_FILE, (texts.get(str(product), []) for product in ids), titles)
    part = Part(named_by_content(written).name, len(columns.ids))
    return dataclasses.replace(manifest, parts=(*manifest.parts, part))


def _joined(parts: Sequence[Attributes | None], rows: Sequence[Int64[np.ndarray, " _"]]) -> Attributes | None:
    """The chosen rows of several parts end to end, those of one without anything empty; None where all are such."""
    if all(part is None for part in parts):
        return None
    pairs = zip(parts, rows, strict=True)
    return Attributes.join(
        [nothing_known(len(chosen)) if part is None else part.take(chosen) for part, chosen in pairs]
    )


def _finish(
    folder: Path,
    manifest: Manifest,
    texts: Sequence[str],
    vectors: Float32[np.ndarray, "queries hidden"],
    *,
    bundle: Bundle | None,
) -> Manifest:
    """Measures a new state, sets its probes, and writes its `index.json`. `bundle`: where regions are kept."""
    manifest.write(folder)
    index = OpenIndex.open(folder)
    golden = ask_exactly(index, texts, vectors)
    if bundle is not None and manifest.kept_regions is not None:
        golden = golden.with_reranked(index, bundle)
    probes = _enough_probes(index, golden)
    measured = {f"recall@{AT}": recall(index, golden, probes=probes), "queries": float(len(texts))}
    manifest = dataclasses.replace(manifest, probes=probes, golden=golden.write(folder), recall=measured)
    manifest.write(folder)
    return manifest


def _enough_probes(index: OpenIndex, golden: Golden) -> int:
    """The fewest cells with which the golden queries reach WANTED_RECALL, or with which more do not help."""
    most = max((part.segment.cells for part in index.parts), default=0)
    if not most:
        return 1
    reachable = recall(index, golden, probes=most)
    for probes in _PROBES:
        if probes >= most:
            break
        if recall(index, golden, probes=probes) >= min(WANTED_RECALL, reachable - 0.002):
            return probes
    return most


def _finish_again(folder: Path, index: Path, manifest: Manifest, bundle: Bundle | None = None) -> None:
    if manifest.golden is None:
        raise DataError("holds no golden queries", path=index)
    golden = Golden.read(index / manifest.golden)
    if manifest.kept_regions is not None and bundle is None:
        bundle = load_same_bundle(index / BUNDLE, manifest.bundle_hash)
    manifest = dataclasses.replace(manifest, revision=manifest.revision + 1)
    _finish(folder, manifest, golden.texts, golden.vectors, bundle=bundle)


def _without(folder: Path, before: OpenIndex, product_ids: Shaped[np.ndarray, " gone"]) -> Manifest:
    """The state without some products; a segment of which nothing lives is left out."""
    parts = []
    for part, opened in zip(before.manifest.parts, before.parts, strict=True):
        rows = opened.segment.rows_of(product_ids)
        changed = add_deleted(folder, part, rows[rows >= 0])
        if np.isin(opened.living_rows, rows).all():
            shutil.rmtree(folder / SEGMENTS / part.name)
            (folder / str(changed.deleted)).unlink(missing_ok=True)
        else:
            parts.append(changed)
    return dataclasses.replace(before.manifest, parts=tuple(parts))


def _columns(dataset: Dataset, source: int) -> Columns:
    rows = np.arange(len(dataset.product_ids))
    return Columns(
        ids=np.asarray(dataset.product_ids),
        sizes=dataset.image_sizes(rows).astype(np.int32),
        region_bounds=bounds_of(dataset.region_counts),
        boxes=dataset.boxes(rows),
        labels=dataset.labels(rows).astype(np.int32),
        source=np.full(len(rows), source, np.int32),
        dataset_row=rows,
    )
