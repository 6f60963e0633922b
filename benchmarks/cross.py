"""What does a cross-encoder cost, packed against padded?

UNITER and Oscar at base size: 768 wide, 12 layers; pairs of lengths like the competition's. Padded is the originals'
method with the same weights: words to 30 tokens, photos to 40 regions, a mask, every slot through every layer. Measured
are scores of pairs, and a training step without the optimiser: forward, margin loss, backward. The ways take turns.
Times are of the processor, so that other work on the machine disturbs less; one thread keeps them free of waiting.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor

from made import FEATURES, LONGEST_QUERY, MOST_REGIONS
from record import Figures, counted_threads, record
from rivals import VOCABULARY, Batch, PaddedPair, padded
from shopwindow.data.regions import Regions
from shopwindow.model.cross import CrossPairs, Kind
from shopwindow.model.cross_heads import KINDS, CrossModel
from shopwindow.model.cross_losses import margin_loss
from shopwindow.model.towers import EncoderSize

GROUP: Final = 4
"""A right pair and three negatives."""


def main() -> None:
    """Measures and records."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    for kind in options.kinds:
        measure(kind, options.pairs, options.layers, options.rounds)


def measure(kind: Kind, count: int, layers: int, rounds: int) -> None:
    """Packed against padded; raises AssertionError where their scores differ."""
    torch.manual_seed(0)
    size = EncoderSize(layers=layers)
    head = KINDS[kind][0]
    model = CrossModel(kind, size, feature_size=FEATURES, vocabulary=VOCABULARY, heads=(head,)).eval()
    pairs = drawn_pairs(count)
    ways: dict[str, Callable[[CrossModel, CrossPairs], Tensor]] = {
        "packed": CrossModel.score,
        "padded": padded_scores,
    }
    with torch.inference_mode():
        scores = [way(model, pairs) for way in ways.values()]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0)
    work = {"scores": scored, "training step": trained}
    seconds: dict[tuple[str, str], list[float]] = {(what, way): [] for what in work for way in ways}
    for _ in range(rounds):
        for (what, way), spent in seconds.items():
            spent.append(processor_seconds(partial(work[what], ways[way], model, pairs)))
    figures: Figures = {"load of the machine": os.getloadavg()[0]}
    for what in work:
        packed, others = seconds[what, "packed"], seconds[what, "padded"]
        figures[f"{what}: pairs a processor second"] = [count / one for one in packed]
        figures[f"{what}: padded pairs a processor second"] = [count / one for one in others]
        figures[f"{what}: times faster"] = [slow / fast for fast, slow in zip(packed, others, strict=True)]
    threads = counted_threads(torch.get_num_threads())
    record(f"cross-encoder {kind}: {count} pairs, 768 wide, {layers} layers, CPU, {threads}", figures)


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds of the processor, of all threads, that some work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def drawn_pairs(count: int) -> CrossPairs:
    """Pairs of lengths like the competition's, values at random, a whole photo as the box of each region."""
    batch = Batch.drawn(count)
    boxes = torch.tensor([0.0, 0, 400, 400]).expand(len(batch.regions), 4)
    sizes = torch.full((len(batch.regions), 2), 400)
    regions = Regions(batch.regions.float(), batch.region_lengths, boxes=boxes, photo_sizes=sizes)
    return CrossPairs(batch.tokens, batch.token_lengths, regions)


def padded_scores(model: CrossModel, pairs: CrossPairs) -> Tensor:
    """The scores of pairs whose words are padded to 30 and regions to 40, before anything is computed."""
    tokens, words = padded(pairs.tokens, pairs.lengths, LONGEST_QUERY)
    features, kept = padded(pairs.regions.features, pairs.regions.counts, MOST_REGIONS)
    assert pairs.regions.boxes is not None
    boxes, _ = padded(pairs.regions.boxes, pairs.regions.counts, MOST_REGIONS)
    rows = len(tokens)
    regions = Regions(
        features.flatten(0, 1),
        torch.full((rows,), MOST_REGIONS),
        boxes=boxes.flatten(0, 1),
        photo_sizes=torch.full((rows * MOST_REGIONS, 2), 400),
    )
    whole = CrossPairs(tokens.flatten(), torch.full((rows,), LONGEST_QUERY), regions)
    body = model.body
    slots = torch.cat(
        [body.embed_words(whole).view(rows, -1, 768), body.embed_regions(whole).view(rows, -1, 768)], dim=1
    )
    pooled = PaddedPair.encoded(body, slots, torch.cat([words, kept], dim=1))
    if model.kind == "uniter":
        return model.heads["rank"](pooled)[:, 0]  # type: ignore[no-any-return] # a Tensor
    matched = model.heads["match"](pooled)
    return matched[:, 1] - matched[:, 0]  # type: ignore[no-any-return] # the same


def scored(way: Callable[[CrossModel, CrossPairs], Tensor], model: CrossModel, pairs: CrossPairs) -> None:
    """Scores all pairs."""
    with torch.inference_mode():
        way(model, pairs)


def trained(way: Callable[[CrossModel, CrossPairs], Tensor], model: CrossModel, pairs: CrossPairs) -> None:
    """Forward, margin loss and backward, with dropout."""
    model.train()
    torch.autograd.backward(margin_loss(way(model, pairs).view(-1, GROUP)).mean())
    model.zero_grad()
    model.eval()


if __name__ == "__main__":
    main()
