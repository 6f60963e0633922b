"""seed.py gives the original's numbers; the packed towers give those of the original, and of seed.py.

Tolerances: 1e-5 absolute for vectors, scores, loss and gradients (float32 sums in another order), 1e-10 where drawn
models are float64; 1e-4 relative for 24 steps of training, where differences add up.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from shopwindow import seed
from shopwindow.data.regions import Regions
from shopwindow.model.losses import sigmoid_loss
from shopwindow.model.negatives import choose_cells
from shopwindow.model.recipe import load_recipe
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from tests.conftest import SHARED

GOLDEN = Path(__file__).parent / "model" / "golden"
GOLDEN_SIZE = seed.Size(hidden=64, layers=4, heads=4, inner=128, dropout=0.0)
ORIGINAL_NAMES = {"text": "txt_enc.bert_text.", "photo": "img_enc.bert_img."}
SEED_NAMES = {
    "embeddings.word_embeddings.weight": "embedding.0.words",
    "embeddings.position_embeddings.weight": "embedding.0.positions",
    "embeddings.token_type_embeddings.weight": "embedding.0.token_types",
    "embeddings.LayerNorm": "embedding.1",
    "projection": "embedding.0",
    "encoder.layer": "layers.layers",
    "attention.self.query.": "self_attn.in_proj_",
    "attention.self.key.": "self_attn.in_proj_",
    "attention.self.value.": "self_attn.in_proj_",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
    "pooler.dense": "pooler",
}
"""BERT's names and those of seed.py, to be replaced in this order."""
Rows = list[Tensor]
"""The token ids of each text, or the regions of each photo."""


class PackedPair(nn.Module):
    """The repository's two towers, of the sizes of a `seed.Seed`."""

    def __init__(self, size: seed.Size, vocabulary: int, longest: int, features: int) -> None:
        super().__init__()
        own = EncoderSize(**size._asdict())
        self.text = TextTower(own, vocabulary=vocabulary, longest=longest)
        self.photo = PhotoTower(own, feature_size=features)


Pair = seed.Seed | PackedPair


def padded(rows: Rows) -> tuple[Tensor, Tensor]:
    mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
    return pad_sequence(rows, batch_first=True), mask


def packed(rows: Rows) -> tuple[Tensor, Tensor]:
    return torch.cat(rows), torch.tensor([len(row) for row in rows])


def vectors(pair: Pair, texts: Rows, photos: Rows) -> tuple[Tensor, Tensor]:
    if isinstance(pair, seed.Seed):
        return pair.text(*padded(texts)), pair.photo(*padded(photos))
    return pair.text(*packed(texts)), pair.photo(Regions(*packed(photos)))


def score(pair: Pair, texts: Rows, photos: Rows) -> Tensor:
    if isinstance(pair, seed.Seed):
        scores: Tensor = pair(*padded(texts), *padded(photos))
        return scores
    words, regions = vectors(pair, texts, photos)
    return words @ regions.T


def loss(pair: Pair, scores: Tensor) -> Tensor:
    """seed.py's loss, or that of the recipe `seed`, to which equal texts and products mean nothing."""
    if isinstance(pair, seed.Seed):
        return seed.loss(scores)
    recipe, numbers = load_recipe("seed"), torch.zeros(len(scores), dtype=torch.int64)
    cells = choose_cells(numbers, numbers, masking=recipe.loss.masking)
    return sigmoid_loss(scores, cells)


def part_of(tower: nn.Module, name: str) -> tuple[nn.Parameter, slice]:
    """The parameter of a tower that BERT calls by this name, or the one that holds it and in which rows."""
    if isinstance(tower, TextTower | PhotoTower):
        return tower.get_parameter(name), slice(None)
    own = name
    for theirs, ours in SEED_NAMES.items():
        own = own.replace(theirs, ours)
    parameter = tower.get_parameter(own)
    for third, projection in enumerate(("query", "key", "value")):
        if f".{projection}." in name:
            hidden = len(parameter) // 3
            return parameter, slice(third * hidden, (third + 1) * hidden)
    return parameter, slice(None)


@torch.no_grad()
def fill(tower: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        parameter, rows = part_of(tower, name)
        parameter[rows] = value


def gradient(tower: nn.Module, name: str) -> Tensor:
    parameter, rows = part_of(tower, name)
    assert parameter.grad is not None
    return parameter.grad[rows]


def golden_weights(tower: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{tower}_weights.npz") as weights:
        return {name: torch.from_numpy(weights[name]) for name in weights.files}


def golden_batch(arrays: Mapping[str, np.ndarray], prefix: str = "") -> tuple[Rows, Rows]:
    texts, photos = (
        torch.split(torch.from_numpy(arrays[prefix + values]), np.diff(arrays[prefix + offsets]).tolist())
        for values, offsets in (("token_ids", "token_offsets"), ("regions", "region_offsets"))
    )
    return list(texts), [photo.float() for photo in photos]


def original_name(tower: str, name: str) -> str:
    if name.startswith("projection."):
        return name.replace("projection.", "img_enc.roi_encoder.")
    return ORIGINAL_NAMES[tower] + name


@pytest.fixture(params=[seed.Seed, PackedPair], ids=["seed.py", "packed"])
def golden_pair(request: pytest.FixtureRequest) -> Pair:
    """A model with the golden weights: seed.py's, or the repository's."""
    pair: Pair = request.param(GOLDEN_SIZE, vocabulary=211, longest=32, features=2048)
    fill(pair.text, golden_weights("text"))
    fill(pair.photo, golden_weights("photo"))
    return pair


def test_embeddings_scores_loss_and_gradients_are_the_originals(golden_pair: Pair) -> None:
    with np.load(GOLDEN / "forward.npz") as golden:
        texts, photos = golden_batch(golden)
        words, regions = vectors(golden_pair, texts, photos)
        scores = score(golden_pair, texts, photos)
        wrong = loss(golden_pair, scores)
        torch.autograd.backward(wrong)
        np.testing.assert_allclose(words.detach().numpy(), golden["text_embedding"], atol=1e-5)
        np.testing.assert_allclose(regions.detach().numpy(), golden["image_embedding"], atol=1e-5)
        np.testing.assert_allclose(scores.detach().numpy(), golden["similarity"], atol=1e-5)
        assert float(wrong.detach()) == pytest.approx(float(golden["loss"]), abs=1e-5)
        norms = dict(zip(golden["grad_norm_names"].tolist(), golden["grad_norms"].tolist(), strict=True))
    ours = {
        original_name(side, name): float(gradient(tower, name).norm())
        for side, tower in (("text", golden_pair.text), ("photo", golden_pair.photo))
        for name in golden_weights(side)
    }
    assert ours == pytest.approx(norms, abs=1e-5)


def test_training_curve_is_the_originals(golden_pair: Pair) -> None:
    path = SHARED / "golden" / "siamese_training.npz"
    if not path.is_file():
        pytest.skip(f"the original's training curve is not at {path} (set SHOPWINDOW_SHARED)")
    with np.load(path) as golden:
        batches = [golden_batch(golden, f"b{i}_") for i in range(4)]
        wanted, rate = golden["losses"], float(golden["learning_rate"])
    optimizer = torch.optim.Adam(golden_pair.parameters(), lr=rate, eps=1e-8)
    losses = []
    for step in range(len(wanted)):
        wrong = loss(golden_pair, score(golden_pair, *batches[step % 4]))
        optimizer.zero_grad()
        torch.autograd.backward(wrong)
        optimizer.step()
        losses.append(float(wrong.detach()))
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)


def pairs_of_equal_weights(size: seed.Size, *, features: int = 20) -> tuple[seed.Seed, PackedPair]:
    """seed.py's model and the packed one, far from the initial weights, where errors would be small."""
    generator = torch.Generator().manual_seed(3)
    oracle, ours = seed.Seed(size, 50, 24, features), PackedPair(size, 50, 24, features)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    fill(oracle.text, ours.text.state_dict())
    fill(oracle.photo, ours.photo.state_dict())
    return oracle, ours


def drawn(token_counts: list[int], region_counts: list[int], *, features: int = 20) -> tuple[Rows, Rows]:
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(0, 50, (count,), generator=generator) for count in token_counts]
    return texts, [torch.randn(count, features, generator=generator) for count in region_counts]


LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=8)


@settings(max_examples=25)
@given(
    token_counts=LENGTHS,
    region_counts=LENGTHS,
    heads=st.integers(1, 4),
    width=st.integers(4, 12),
    layers=st.integers(1, 3),
)
def test_packed_towers_are_those_of_seed_forward_and_backward(
    token_counts: list[int], region_counts: list[int], heads: int, width: int, layers: int
) -> None:
    size = seed.Size(heads * width, layers, heads, inner=48, dropout=0.0)
    oracle, ours = pairs_of_equal_weights(size)
    oracle, ours = oracle.double(), ours.double()
    texts, photos = drawn(token_counts, region_counts)
    batch = texts, [photo.double() for photo in photos]
    for side, got, wanted in zip(
        ("text", "photo"), vectors(ours, *batch), vectors(oracle, *batch), strict=True
    ):
        torch.testing.assert_close(got, wanted, atol=1e-10, rtol=0)
        cotangent = torch.randn(got.shape, generator=torch.Generator().manual_seed(2))
        torch.autograd.backward((got * cotangent).sum())
        torch.autograd.backward((wanted * cotangent).sum())
        for name, parameter in getattr(ours, side).named_parameters():
            expected = gradient(getattr(oracle, side), name)
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(parameter.grad, expected, atol=1e-10 * scale, rtol=0, msg=name)


def test_towers_of_seed_and_packed_ones_agree_in_use() -> None:
    """Without gradients torch takes another path through seed.py's layers, and no dropout acts."""
    oracle, ours = pairs_of_equal_weights(seed.Size(32, 3, 4, 48, dropout=0.5))
    batch = drawn([1, 7, 3, 7, 24], [2, 5, 1, 9])
    with torch.no_grad():
        for got, wanted in zip(vectors(ours.eval(), *batch), vectors(oracle.eval(), *batch), strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_dropout_acts_where_it_does_in_the_packed_towers() -> None:
    """With one place a row both draw the same random numbers in the same order, so the vectors are equal."""
    oracle, ours = pairs_of_equal_weights(seed.Size(32, 3, 4, 48, dropout=0.5))
    batch = drawn([1] * 6, [1] * 5)
    results = []
    for pair in (oracle, ours):
        torch.manual_seed(7)
        results.append(vectors(pair, *batch))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_initial_weights_of_seed_are_berts() -> None:
    """Spread of weights 0.02, of biases and norms 0. The projection of regions keeps torch's initial weights."""
    torch.manual_seed(0)
    pair = seed.Seed(seed.Size(hidden=64, layers=2, heads=4, inner=128), vocabulary=500, features=40)
    for name, parameter in pair.named_parameters():
        spread = 0.0 if "norm" in name or "embedding.1" in name or name.endswith("bias") else 0.02
        if name.startswith("photo.embedding.0"):
            spread = (3 * 40) ** -0.5
        assert float(parameter.detach().std(correction=0)) == pytest.approx(spread, rel=0.2), name


def test_seed_imports_nothing_but_torch() -> None:
    """Of the standard library it may take what it likes."""
    tree = ast.parse(Path(seed.__file__).read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    rooms = {module.split(".")[0] for module in modules}
    assert rooms - set(sys.stdlib_module_names) == {"torch"}


def test_readme_shows_the_code_of_seed() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```python\nclass Seed", 1)[1].split("```", 1)[0]
    assert Path(seed.__file__).read_text(encoding="utf-8").endswith("class Seed" + shown)
