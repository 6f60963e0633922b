"""A small catalogue with a random model: what the index and the engine are tested with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shopwindow.data.prepare import prepare
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.late import LateInteraction
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize
from tests.data.rows import SIZE, make_line, make_product, write_tsv
from tests.model.parts import two_towers

HIDDEN = 32
WORDS = ("red", "blue", "green", "shoe", "bag", "lamp", "summer", "small")
PRODUCTS = 300


def write_bundle(path: Path, *, seed: int = 0, normalise: bool = True) -> Path:
    """A bundle of random weights, wide enough apart that scores differ."""
    size = EncoderSize(hidden=HIDDEN, layers=1, heads=2, inner=32, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = train_tokenizer([*WORDS], vocabulary=100)
        vocabulary = tokenizer.get_vocab_size()
        model = two_towers(size, feature_size=SIZE, vocabulary=vocabulary, longest=32, normalise=normalise)
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if weights.dim() == 2:
                    weights.normal_(std=0.4 if "projection" not in name else 1.0)
    with whole_directory(path, marker=MARKER) as folder:
        Bundle(model, tokenizer).save_into(folder)
    return path


def write_late_bundle(path: Path) -> Path:
    """One with late interaction, whose word weights differ."""
    bundle = Bundle.load(write_bundle(path.with_name(f"{path.name}-plain")))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        bundle.model.late = LateInteraction(bundle.model.vocabulary, SIZE, width=8)
        torch.nn.init.normal_(bundle.model.late.importance.weight)
    with whole_directory(path, marker=MARKER) as folder:
        bundle.save_into(folder)
    return path


def query_of(product_id: int) -> str:
    """The words that a product of the catalogue is known to match."""
    rng = np.random.default_rng(product_id)
    return " ".join(rng.choice(WORDS, 3, replace=False).tolist())


def write_dataset(path: Path, product_ids: range | list[int], *, seed: int = 0) -> Path:
    """A dataset of these products; another seed gives them other regions."""
    texts = sorted({query_of(one) for one in product_ids})
    lines = [
        make_line(
            make_product(one, 1 + one % 4, seed=seed), query_of(one), 10_000 + texts.index(query_of(one))
        )
        for one in product_ids
    ]
    source = write_tsv(path.with_suffix(".tsv"), lines)
    prepare([source], path, feature_size=SIZE)
    source.unlink()
    return path
