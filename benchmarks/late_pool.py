"""What does late interaction cost when a pool of 1,000 products is re-ranked on one thread of a CPU?

Made-up regions (3.8 a product on average, 2,048 values), the recipe late, untrained: what is computed does not depend
on what was learned. Of a pool whose products' vectors are known, as in an index: the plain scores alone, and with the
second score beside them, which reads the regions, projects them, and compares them with the words. Beside it its parts,
and what the vectors themselves cost where they are not known. Then whole searches, words to hits, of an index of these
products: all of them found, and re-ranked from the regions that the index keeps, or from the dataset.

    python benchmarks/late_pool.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from made import write_dataset
from record import record
from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.encoder import PartsEncoder, encode_products, encode_texts
from shopwindow.model.initial import initial_model
from shopwindow.model.rank import score_pairs, second_scores
from shopwindow.model.recipe import load_recipe
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine


def main() -> None:
    """Measures in rounds, every way in each, and records medians and spread."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--products", type=int, default=1_000, help="of the pool")
    parser.add_argument("--queries", type=int, default=5, help="a round, each on the whole pool")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as scratch:
        folder = Path(scratch) / "pool"
        write_dataset(folder, options.products, products_per_query=max(1, options.products // 50))
        figures = measure(Dataset(folder), Path(scratch), options.queries, options.rounds)
    record(
        f"late interaction: a pool of {options.products:,} re-ranked, one thread",
        {"load of the machine": os.getloadavg()[0], **figures},
    )


def engines_of(
    model: PartsEncoder, tokenizer: Tokenizer, dataset: Dataset, scratch: Path
) -> tuple[SearchEngine, SearchEngine]:
    """The engines of an index that keeps regions and of one that does not."""
    with whole_directory(scratch / "bundle", marker=MARKER) as folder:
        Bundle(model, tokenizer).save_into(folder)
    for name, keeps in (("kept", True), ("read", False)):
        build_index(scratch / "bundle", dataset.path, scratch / name, late_regions=keeps)
    return SearchEngine.open(scratch / "kept"), SearchEngine.open(scratch / "read")


def measure(dataset: Dataset, scratch: Path, queries: int, rounds: int) -> dict[str, float | list[float]]:
    """Milliseconds a query of each way, one value a round; the ways take turns in a round."""
    tokenizer, model = initial_model(dataset, load_recipe("late"))
    model.eval()
    everything = np.arange(len(dataset.product_ids))
    texts = [dataset.query_texts[query % len(dataset.query_texts)] for query in range(queries)]
    vectors = encode_products(model, dataset, everything)
    words = encode_texts(model, tokenizer, texts)
    held = dataset.regions(everything, boxes=model.needs_boxes)
    with torch.inference_mode():
        projected = model.project_regions(held)

    kept, read_anew = engines_of(model, tokenizer, dataset, scratch)
    every = len(everything)

    def plain(query: int) -> object:
        return score_pairs(words, vectors, np.full(len(everything), query), everything)

    def second(query: int, photos: Regions) -> object:
        return second_scores(model, tokenizer, texts[query], photos)

    def read() -> Regions:
        return dataset.regions(everything, boxes=model.needs_boxes)

    @torch.inference_mode()
    def project() -> object:
        return model.project_regions(held)

    def from_projected(query: int) -> object:
        return second_scores(model, tokenizer, texts[query], projected, projected=True)

    ways: dict[str, Callable[[int], object]] = {
        "without late": plain,
        "with late": lambda query: (plain(query), second(query, read())),
        "of it: reading regions": lambda _: read(),
        "of it: projecting regions": lambda _: project(),
        "with late, regions projected before": lambda query: (plain(query), from_projected(query)),
        "vectors of the pool made too, without late": lambda query: (
            encode_products(model, dataset, everything),
            plain(query),
        ),
        "search": lambda query: kept.search(texts[query], k=every),
        "search, late from the index": lambda query: kept.search(texts[query], k=every, rerank="late"),
        "search, late from the dataset": lambda query: read_anew.search(texts[query], k=every, rerank="late"),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first round warms up
        for name, way in ways.items():
            start = time.perf_counter()
            for query in range(queries):
                way(query)
            if number:
                taken[name].append(1_000 * (time.perf_counter() - start) / queries)
    times = [taken["search, late from the dataset"], taken["search, late from the index"]]
    return {
        "regions": float(len(held.features)),
        "bytes a product of regions in the index": kept.stats()["late_region_bytes_per_product"],
        **{f"{name}, ms": times for name, times in taken.items()},
        "search, late: times faster from the index": [a / b for a, b in zip(*times, strict=True)],
    }


if __name__ == "__main__":
    main()
