"""The towers, the loss, the optimiser and the smoothing are the seed's, to the last digits that float32 keeps.

Tolerances: 1e-5 absolute for vectors, scores, loss and gradient norms (float32 sums in another order);
1e-4 relative for 24 steps of training, where differences add up; 0.003 for smoothing, which the original
rounds to float16 at values up to 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shopwindow.data.regions import Regions
from shopwindow.model.losses import sigmoid_loss
from shopwindow.model.negatives import Cells, choose_cells
from shopwindow.model.recipe import load_recipe
from shopwindow.model.smoothing import smooth_regions
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from tests.conftest import SHARED

GOLDEN = Path(__file__).parent / "golden"
SIZE = EncoderSize(hidden=64, layers=4, heads=4, inner=128, dropout=0.0)
ORIGINAL_NAMES = {"text": "txt_enc.bert_text.", "photo": "img_enc.bert_img."}


@pytest.fixture
def towers() -> tuple[TextTower, PhotoTower]:
    text = TextTower(SIZE, vocabulary=211, longest=32)
    photo = PhotoTower(SIZE, feature_size=2048)
    for tower, name in ((text, "text"), (photo, "photo")):
        with np.load(GOLDEN / f"{name}_weights.npz") as weights:
            tower.load_state_dict({key: torch.from_numpy(weights[key]) for key in weights.files})
    return text, photo


def batch(arrays: Mapping[str, np.ndarray], prefix: str = "") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(arrays[f"{prefix}token_ids"]),
        torch.from_numpy(np.diff(arrays[f"{prefix}token_offsets"])),
        torch.from_numpy(arrays[f"{prefix}regions"]).float(),
        torch.from_numpy(np.diff(arrays[f"{prefix}region_offsets"])),
    )


def seeds_cells(pairs: int) -> Cells:
    """What the recipe `seed` takes a batch's cells for: the diagonal is right, all others are wrong."""
    recipe = load_recipe("seed")
    numbers = torch.zeros(
        pairs, dtype=torch.int64
    )  # were all texts and products equal, the seed would not know
    return choose_cells(numbers, numbers, masking=recipe.loss.masking)


def original_name(tower: str, name: str) -> str:
    if name.startswith("projection."):
        return name.replace("projection.", "img_enc.roi_encoder.")
    return ORIGINAL_NAMES[tower] + name


def test_embeddings_scores_loss_and_gradients_are_the_seeds(towers: tuple[TextTower, PhotoTower]) -> None:
    text, photo = towers
    with np.load(GOLDEN / "forward.npz") as golden:
        tokens, token_counts, regions, region_counts = batch(golden)
        words, photos = text(tokens, token_counts), photo(Regions(regions, region_counts))
        scores = words @ photos.T
        loss = sigmoid_loss(scores, seeds_cells(len(scores)))
        torch.autograd.backward(loss)
        np.testing.assert_allclose(words.detach().numpy(), golden["text_embedding"], atol=1e-5)
        np.testing.assert_allclose(photos.detach().numpy(), golden["image_embedding"], atol=1e-5)
        np.testing.assert_allclose(scores.detach().numpy(), golden["similarity"], atol=1e-5)
        assert float(loss.detach()) == pytest.approx(float(golden["loss"]), abs=1e-5)
        norms = dict(zip(golden["grad_norm_names"].tolist(), golden["grad_norms"].tolist(), strict=True))
    ours = {
        original_name(tower, name): float(parameter.grad.norm())
        for tower, module in (("text", text), ("photo", photo))
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    assert ours == pytest.approx(norms, abs=1e-5)


def test_training_curve_is_the_seeds(towers: tuple[TextTower, PhotoTower]) -> None:
    path = SHARED / "golden" / "siamese_training.npz"
    if not path.is_file():
        pytest.skip(f"the seed's training curve is not at {path} (set SHOPWINDOW_SHARED)")
    text, photo = towers
    with np.load(path) as golden:
        batches = [batch(golden, f"b{i}_") for i in range(4)]
        wanted, rate = golden["losses"], float(golden["learning_rate"])
    optimizer = torch.optim.Adam([*text.parameters(), *photo.parameters()], lr=rate, eps=1e-8)
    losses = []
    for step in range(len(wanted)):
        tokens, token_counts, regions, region_counts = batches[step % 4]
        scores = text(tokens, token_counts) @ photo(Regions(regions, region_counts)).T
        loss = sigmoid_loss(scores, seeds_cells(len(scores)))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)


def test_smoothed_regions_are_the_seeds() -> None:
    with np.load(GOLDEN / "smoothing.npz") as golden:
        smoothed = smooth_regions(torch.from_numpy(golden["regions"]))
        np.testing.assert_allclose(smoothed.numpy(), golden["smoothed"].astype(np.float32), atol=0.003)
