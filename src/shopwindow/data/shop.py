"""How do a shop's photos and clicks become a dataset to learn from?

Takes the features of photos (`features.py`) and a click log, or titles where there are no clicks. Cleans, weighs and
splits, and writes the whole catalogue with the pairs of training; what is held out lies beside as CSV. Knows no model.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from shopwindow.data.clicks import (
    BIAS,
    Clicks,
    Judgements,
    Pairs,
    one_query,
    read_clicks,
    read_judgements,
    weigh,
)
from shopwindow.data.dataset import CATALOGUE, FORMAT, MANIFEST, WEIGHTS
from shopwindow.data.features import Features
from shopwindow.data.outliers import outliers
from shopwindow.data.queries import head_of, head_place, phrase_words
from shopwindow.data.split import HELD_OUT, TEST, TRAIN, VALID, Split, Way, split, strata
from shopwindow.data.writer import DatasetWriter
from shopwindow.files import DataError, whole_directory

TITLES_SAY: Final = (
    "No clicks were given: phrases of the titles are the queries. Scores on them say how well photos are found by their"
    " own titles, not what shoppers want."
)
NOTHING_SAYS: Final = "No clicks were given and there are no titles: only pretrained towers can search."
_COLUMNS: Final = ("counts", "features", "boxes", "photo_sizes", "labels", "photos")
_AT_ONCE: Final = 256
"""Products in a chunk of a file."""

Progress = Callable[[int, int], None]
"""Called with products stored and products in all."""


@dataclass(frozen=True)
class ShopReport:
    """What was read, dropped, split and stored: (what, count) in the order of reading, and sentences."""

    counts: list[tuple[str, int]]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"counts": dict(self.counts), "notes": self.notes}


@dataclass(frozen=True)
class _Parts:
    """The pairs of each part, of one click log."""

    clicks: Clicks
    split: Split
    training: Pairs
    held_out: dict[str, Pairs]


def prepare_shop(
    features: Features,
    clicks: str | Path | None,
    out: str | Path,
    *,
    judgements: str | Path | None = None,
    columns: dict[str, str] | None = None,
    way: Way | None = None,
    share: float = HELD_OUT,
    eta: float = 1.0,
    least_clicks: int = 1,
    keep_bots: bool = False,
    keep_outliers: bool = False,
    progress: Progress | None = None,
) -> ShopReport:
    """Writes a dataset to `out`: all products, the pairs of training, and held-out clicks; gives what it says of them.

    `columns` names columns of the click log by role; `way` and `share` are those of `split`, `eta` and `least_clicks`
    those of `weigh`. Without clicks, phrases of the titles are the queries: the title, its thing, and the thing with
    the word before it. `judgements` are checked against the catalogue and kept beside, to measure on. Outliers
    (`outliers.py`) are left out of the training, unless kept; held-out clicks are measured on as they are.

    Without titles too there are no pairs: then only pretrained towers can search.

    Raises: DataError as `read_clicks` and `read_judgements`; where no click is left to learn from; where the disk is
    full. ValueError as `split`.
    """
    if clicks is None:
        log = _titles(features)
    else:
        log = read_clicks(clicks, features.ids, columns=columns, keep_bots=keep_bots)
    parts = _part(log, split(log, way=way, share=share), eta=eta, least_clicks=least_clicks)
    if clicks is not None and not keep_outliers:
        parts = replace(parts, training=_without_outliers(features, parts.training))
    graded = None if judgements is None else read_judgements(judgements, features.ids)
    report = _report(features, parts, graded, from_titles=clicks is None)
    try:
        with whole_directory(out, marker=MANIFEST) as folder:
            manifest = _write(folder, features, parts, weighted=clicks is not None, progress=progress)
            manifest["held_out"] = _write_held_out(folder, features, parts, graded)
            manifest["sources"] = [Path(log.path).name]
            manifest["report"] = report.to_json()
            manifest["content_hash"] = _content_hash(features, parts, manifest)
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    except sqlite3.Error as error:
        raise DataError(f"cannot be written: {error}", path=out) from error
    return report


def title_phrases(title: str) -> list[str]:
    """What a shopper might type for a title: all of it, its thing, and the thing with the word before it.

    >>> title_phrases("Arla Blueberry Yoghurt")
    ['arla blueberry yoghurt', 'blueberry yoghurt', 'yoghurt']
    """
    words = phrase_words(title)
    if not words:
        return []
    place = head_place(words)
    phrases = [one_query(title), " ".join(words[max(place - 1, 0) : place + 1]), head_of(words)]
    return list(dict.fromkeys(phrases))


def _titles(features: Features) -> Clicks:
    """Every phrase of a title as a click on its product; none where there is no title."""
    phrases = [title_phrases(title) for title in features.titles or ()]
    texts = sorted({phrase for some in phrases for phrase in some})
    places = {text: place for place, text in enumerate(texts)}
    queries = np.array([places[phrase] for some in phrases for phrase in some], np.int64)
    products = np.repeat(np.arange(len(phrases)), [len(some) for some in phrases])
    report = {"phrases of titles": len(queries)}
    ones = np.ones(len(queries))
    return Clicks(texts, queries, products, ones, None, None, None, {}, str(features.path), report)


def _without_outliers(features: Features, pairs: Pairs) -> Pairs:
    keep = ~outliers(features, pairs)
    return replace(
        pairs,
        queries=pairs.queries[keep],
        products=pairs.products[keep],
        clicks=pairs.clicks[keep],
        weights=pairs.weights[keep],
        outliers=int((~keep).sum()),
    )


def _part(log: Clicks, parts: Split, *, eta: float, least_clicks: int) -> _Parts:
    training, valid, test = (
        weigh(log.take(parts.parts == part), eta=eta, least_clicks=least_clicks)
        for part in (TRAIN, VALID, TEST)
    )
    if log.found and not len(training.queries):
        raise DataError("no pair is left to learn from", path=log.path)
    held_out = {name: pairs for name, pairs in (("valid", valid), ("test", test)) if len(pairs.queries)}
    return _Parts(log, parts, training, held_out)


def _write(
    folder: Path, features: Features, parts: _Parts, *, weighted: bool, progress: Progress | None
) -> dict[str, Any]:
    """The products, queries and pairs; gives what the manifest says of them."""
    training, count = parts.training, len(features.ids)
    queries, places = np.unique(training.queries, return_inverse=True)
    pairs = zip(training.products.tolist(), places.tolist(), training.weights.tolist(), strict=True)
    with DatasetWriter(folder, weighted=weighted) as writer:
        for start in range(0, count, _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, count))
            for product_id in features.ids[rows].tolist():
                writer.products.add(product_id, b"")
            regions = features.regions(rows)
            writer.add_regions({name: getattr(regions, name).numpy() for name in _COLUMNS})
            if progress is not None:
                progress(int(rows[-1]) + 1, count)
        for number, query in enumerate(queries.tolist()):
            writer.queries.add(number, parts.clicks.texts[query])
        for product, place, weight in pairs:
            writer.add_pair(product, place, training=True, weight=weight)
    _write_catalogue(folder / CATALOGUE, features)
    detector = features.manifest.get("detector")
    return {
        "format": FORMAT,
        "feature_size": features.feature_size,
        "label_count": features.label_count,
        "rules": [],
        "shards": writer.shards,
        "backbone": features.backbone | ({"detector": detector} if detector else {}),
        "catalogue": CATALOGUE,
        "features": features.content_hash,
        **({"weights": {"file": WEIGHTS, "sha256": writer.weights_sha256}} if weighted else {}),
    }


def _write_catalogue(path: Path, features: Features) -> None:
    others = features.columns
    titles = pa.array(features.titles or [""] * len(features.ids), pa.string())
    photos = pa.array(list(map(list, features.photos)), pa.list_(pa.string()))
    names = ["title", "photos", *others.column_names]
    table = pa.Table.from_arrays([titles, photos, *others.columns], names=names)
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


def _write_held_out(
    folder: Path, features: Features, parts: _Parts, graded: Judgements | None
) -> dict[str, dict[str, Any]]:
    """CSV files of query, id, relevant; a held-out click is relevant by its weight, rounded, and at least 1."""
    written = {}
    for name, pairs in parts.held_out.items():
        grades = np.maximum(np.rint(pairs.weights), 1).astype(np.int64)
        texts = [parts.clicks.texts[query] for query in pairs.queries.tolist()]
        written[name] = _write_csv(folder / f"{name}.csv", texts, features.ids[pairs.products], grades)
    if graded is not None:
        texts = [graded.texts[query] for query in graded.queries.tolist()]
        ids = features.ids[graded.products]
        written["judgements"] = _write_csv(folder / "judgements.csv", texts, ids, graded.grades)
    return written


def _write_csv(path: Path, texts: Sequence[str], ids: np.ndarray, grades: np.ndarray) -> dict[str, Any]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query", "id", "relevant"])
        written = [int(grade) if grade == int(grade) else grade for grade in grades.tolist()]
        writer.writerows(zip(texts, ids.tolist(), written, strict=True))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "queries": len(set(texts)), "pairs": len(texts), "sha256": digest}


def _content_hash(features: Features, parts: _Parts, manifest: dict[str, Any]) -> str:
    training = parts.training
    digest = hashlib.sha256(features.content_hash.encode())
    for column in (training.queries, training.products, training.weights.astype("<f4")):
        digest.update(np.ascontiguousarray(column).tobytes())
    digest.update(json.dumps([parts.clicks.texts, manifest["held_out"]], sort_keys=True).encode())
    return digest.hexdigest()


def _report(features: Features, parts: _Parts, graded: Judgements | None, *, from_titles: bool) -> ShopReport:
    training, log = parts.training, parts.clicks
    counts = list(log.report.items())
    dropped = training.dropped + sum(pairs.dropped for pairs in parts.held_out.values())
    if dropped:
        counts.append(("pairs with too few clicks: dropped", dropped))
    if training.outliers:
        counts.append(("training: pairs unlike the query's other photos: left out", training.outliers))
    counts += [
        ("training: pairs", len(training.queries)),
        ("training: queries", len(np.unique(training.queries))),
        ("training: products", len(np.unique(training.products))),
        ("products in the catalogue", len(features.ids)),
    ]
    for name, pairs in parts.held_out.items():
        counts += [
            (f"{name}: pairs", len(pairs.queries)),
            (f"{name}: queries", len(np.unique(pairs.queries))),
        ]
    notes = [] if from_titles else [f"columns of the clicks: {_columns(log.found)}"]
    notes.append(f"held out {parts.split.says}")
    notes += [f"{name}: {strata(pairs, training).says}" for name, pairs in parts.held_out.items()]
    if "valid" not in parts.held_out:
        notes.append("nothing is held out to validate on: train needs --valid and --answers")
    notes.append(BIAS if not from_titles else TITLES_SAY if len(training.queries) else NOTHING_SAYS)
    if graded is not None:
        counts += [
            ("judgements: pairs", len(graded.grades)),
            ("judgements: queries", len(graded.texts)),
            ("judgements: of products that the catalogue lacks", graded.unknown),
        ]
        notes.append(f"columns of the judgements: {_columns(graded.found)}")
    return ShopReport(counts, notes)


def _columns(found: dict[str, str]) -> str:
    return ", ".join(f"{role} is {name!r}" for role, name in found.items())
