"""Packed towers against loops, and against themselves in any company; against seed.py: `tests/test_seed.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shopwindow.data.regions import Regions
from shopwindow.model import towers
from shopwindow.model.packing import Layout, attend, positions
from shopwindow.model.recipe import Readout
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower

SIZE = EncoderSize(hidden=32, layers=3, heads=4, inner=48, dropout=0.0)
VOCABULARY, LONGEST, FEATURES = 50, 24, 20


def sequences(lengths: list[int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in lengths]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, LONGEST), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_company_and_order_do_not_change_an_embedding(lengths: list[int], seed: int) -> None:
    torch.manual_seed(5)
    tower = TextTower(SIZE, vocabulary=VOCABULARY, longest=LONGEST).eval()
    rows = sequences(lengths, seed)
    together = tower(torch.cat(rows), torch.tensor(lengths))
    alone = torch.cat([tower(row, torch.tensor([len(row)])) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    order = np.random.default_rng(seed).permutation(len(rows))
    mixed = tower(torch.cat([rows[i] for i in order]), torch.tensor([lengths[i] for i in order]))
    torch.testing.assert_close(mixed, together[torch.from_numpy(order)], atol=1e-6, rtol=0)


def test_joined_projections_are_the_projections(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    tower = TextTower(SIZE, vocabulary=VOCABULARY, longest=LONGEST)
    rows, results = sequences([3, 1, 5]), []
    for least in (0, 1000):
        monkeypatch.setattr(towers, "JOINED_FROM", least)
        tower.zero_grad()
        out = tower(torch.cat(rows), torch.tensor([3, 1, 5]))
        torch.autograd.backward((out * torch.arange(32.0)).sum())
        results.append([out.detach(), *(own.grad for own in tower.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_later_regions_have_no_order_but_the_first_speaks() -> None:
    torch.manual_seed(5)
    tower = PhotoTower(SIZE, feature_size=FEATURES).eval()
    regions = torch.rand(4, FEATURES)
    whole = tower(Regions(regions, torch.tensor([4])))
    torch.testing.assert_close(
        tower(Regions(regions[[0, 3, 1, 2]], torch.tensor([4]))), whole, atol=1e-6, rtol=0
    )
    assert (tower(Regions(regions[[1, 0, 2, 3]], torch.tensor([4]))) - whole).abs().max() > 1e-3


def test_grouped_attention_is_attention_with_a_block_mask() -> None:
    lengths = torch.tensor([2, 4, 1, 4])
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(11, 2, 8, generator=generator) for _ in range(3))
    layout = Layout.of(lengths, torch.device("cpu"))
    ordered = attend(q[layout.order], k[layout.order], v[layout.order], layout)
    got = torch.empty_like(ordered)
    got[layout.order] = ordered
    owner = torch.repeat_interleave(torch.arange(4), lengths)
    weights = torch.einsum("ihd,jhd->hij", q, k) / 8**0.5
    weights = weights.masked_fill(owner[:, None] != owner[None, :], -torch.inf).softmax(-1)
    torch.testing.assert_close(got, torch.einsum("hij,jhd->ihd", weights, v), atol=1e-6, rtol=0)


def test_first_tokens_are_those_of_the_whole_encoder_forward_and_backward() -> None:
    torch.manual_seed(2)
    tower = PhotoTower(SIZE, feature_size=FEATURES)
    lengths = torch.tensor([3, 1, 6, 3, 2])
    hidden = torch.randn(int(lengths.sum()), SIZE.hidden, requires_grad=True)
    layout = Layout.of(lengths, hidden.device)
    weights = torch.randn(len(lengths), SIZE.hidden)
    gradients = []
    for first in (
        tower.encoder(hidden, layout)[layout.starts[layout.place]],
        tower.encoder.first(hidden, layout),
    ):
        inputs = [hidden, *tower.encoder.parameters()]
        gradients.append([first, *torch.autograd.grad((first * weights).sum(), inputs)])
    for whole, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(alone, whole, atol=1e-5, rtol=1e-5)


def test_layout_counted_by_hand() -> None:
    layout = Layout.of(torch.tensor([3, 1, 2]), torch.device("cpu"))
    assert layout.order.tolist() == [3, 4, 5, 0, 1, 2]
    assert layout.starts.tolist() == [0, 1, 3]
    assert layout.place.tolist() == [2, 0, 1]
    assert [tuple(group) for group in layout.groups] == [(0, 1, 1), (1, 1, 2), (3, 1, 3)]
    assert positions(torch.tensor([3, 1, 2])).tolist() == [0, 1, 2, 0, 0, 1]


@pytest.mark.parametrize("lengths", [[], [2, 0]])
def test_empty_sequences_and_batches_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="every batch needs a sequence"):
        Layout.of(torch.tensor(lengths, dtype=torch.int64), torch.device("cpu"))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    tower = TextTower(EncoderSize(32, 2, 4, 48, dropout=0.5), vocabulary=VOCABULARY, longest=LONGEST)
    tokens, lengths = torch.arange(1, 9), torch.tensor([5, 3])
    assert not torch.equal(tower(tokens, lengths), tower(tokens, lengths))
    tower.eval()
    assert torch.equal(tower(tokens, lengths), tower(tokens, lengths))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"heads": 5}, "must divide"), ({"layers": 0}, "positive"), ({"dropout": 1.0}, "dropout")],
)
def test_sizes_that_make_no_sense_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EncoderSize(**{"hidden": 32, "layers": 1, "heads": 4, "inner": 48, **wrong})  # type: ignore[arg-type] # wrong on purpose


READOUTS: tuple[Readout, ...] = get_args(Readout)
LABELS = 33


def photo_tower(readout: Readout, *, boxes: bool = False) -> PhotoTower:
    """A tower far from its initial weights, where errors would be small; maps of boxes as they are at first."""
    torch.manual_seed(8)
    tower = PhotoTower(SIZE, feature_size=FEATURES, readout=readout, labels=LABELS if boxes else None).eval()
    for name, parameter in tower.named_parameters():
        if not name.startswith(("geometry", "labels")):
            nn.init.normal_(parameter, std=0.3)
    return tower


def some_regions(lengths: list[int], seed: int = 0) -> Tensor:
    return torch.randn(sum(lengths), FEATURES, generator=torch.Generator().manual_seed(seed))


def read_alone(tower: PhotoTower, regions: Tensor) -> Tensor:
    """The vector of one photo by the plain path: all tokens through all layers, then what the readout says."""
    hidden = tower.projection(regions)
    hidden = tower.embeddings(hidden)
    hidden = tower.encoder(hidden, Layout.of(torch.tensor([len(hidden)]), hidden.device))
    first = hidden[0] if tower.readout != "attention" else (hidden @ tower.asking).softmax(0) @ hidden
    read: Tensor = tower.pooler(first[None])
    return read


@pytest.mark.parametrize("readout", READOUTS)
def test_readouts_are_those_of_a_loop_forward_and_backward(readout: Readout) -> None:
    tower, lengths = photo_tower(readout), [3, 1, 6, 3, 2]
    regions = some_regions(lengths)
    got = tower(Regions(regions, torch.tensor(lengths)))
    wanted = torch.cat([read_alone(tower, photo) for photo in torch.split(regions, lengths)])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(1))
    parameters = list(tower.parameters())
    ours, theirs = (torch.autograd.grad((out * weights).sum(), parameters) for out in (got, wanted))
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(mine / scale, other / scale, atol=1e-5, rtol=0)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_neither_regions_nor_photos_have_an_order(lengths: list[int], seed: int) -> None:
    tower = photo_tower("attention")
    photos = torch.split(some_regions(lengths, seed), lengths)
    whole = tower(Regions(torch.cat(photos), torch.tensor(lengths)))
    rng = np.random.default_rng(seed)
    mixed = [photo[torch.from_numpy(rng.permutation(len(photo)))] for photo in photos]
    torch.testing.assert_close(
        tower(Regions(torch.cat(mixed), torch.tensor(lengths))), whole, atol=1e-5, rtol=0
    )
    order = rng.permutation(len(lengths)).tolist()
    moved = tower(Regions(torch.cat([photos[i] for i in order]), torch.tensor([lengths[i] for i in order])))
    torch.testing.assert_close(moved, whole[order], atol=1e-5, rtol=0)
    alone = torch.cat([tower(Regions(photo, torch.tensor([len(photo)]))) for photo in photos])
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=0)


def test_attention_does_not_overflow() -> None:
    tower = photo_tower("attention")
    with torch.no_grad():
        tower.asking.mul_(1e4)
    assert tower(Regions(some_regions([4, 1]), torch.tensor([4, 1]))).isfinite().all()


def with_boxes(regions: Tensor, lengths: list[int]) -> Regions:
    """Regions with random boxes in photos of 100 x 100, and random labels."""
    generator = torch.Generator().manual_seed(6)
    count = len(regions)
    corners = 40 * torch.rand(count, 2, generator=generator)
    sides = 10 + 40 * torch.rand(count, 2, generator=generator)
    return Regions(
        regions,
        torch.tensor(lengths),
        boxes=torch.cat([corners, corners + sides], dim=1),
        photo_sizes=torch.full((count, 2), 100),
        labels=torch.randint(0, LABELS, (count,), generator=generator),
    )


@pytest.mark.parametrize("readout", READOUTS)
def test_boxes_say_nothing_at_first_and_what_their_maps_say_later(readout: Readout) -> None:
    lengths = [3, 1, 4]
    photos = with_boxes(some_regions(lengths), lengths)
    plain, boxed = photo_tower(readout), photo_tower(readout, boxes=True)
    assert set(boxed.state_dict()) - set(plain.state_dict()) == {
        "geometry.weight",
        "geometry.bias",
        "labels.weight",
    }
    boxed.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(boxed(photos), plain(photos))
    for part in (boxed.geometry, boxed.labels):
        before = boxed(photos)
        nn.init.normal_(part.weight)
        assert (boxed(photos) - before).abs().max() > 1e-3
    # the oracle: what boxes say is added to the projected regions
    assert photos.geometry is not None
    assert photos.labels is not None
    with torch.no_grad():
        moved = plain.projection(photos.features) + photos.geometry @ boxed.geometry.weight.T
        moved += boxed.labels.weight[photos.labels]
        plain.projection = nn.Linear(SIZE.hidden, SIZE.hidden)
        plain.projection.weight.copy_(torch.eye(SIZE.hidden))
        plain.projection.bias.zero_()
    torch.testing.assert_close(boxed(photos), plain(photos.with_features(moved)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("readout", READOUTS)
def test_boxes_stay_with_their_regions_in_any_company(readout: Readout) -> None:
    lengths = [3, 1, 4]
    tower = photo_tower(readout, boxes=True)
    nn.init.normal_(tower.geometry.weight)
    nn.init.normal_(tower.labels.weight)
    photos = with_boxes(some_regions(lengths), lengths)
    together = tower(photos)
    for place in range(len(lengths)):
        torch.testing.assert_close(
            tower(photos.part(place, place + 1))[0], together[place], atol=1e-5, rtol=0
        )
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(tower(photos.take(order)), together[order], atol=1e-5, rtol=0)


def test_a_tower_of_boxes_without_any_is_refused() -> None:
    tower = photo_tower("first", boxes=True)
    photos = with_boxes(some_regions([2]), [2])
    for missing in ("boxes", "labels"):
        with pytest.raises(ValueError, match="takes boxes and labels"):
            tower(replace(photos, **{missing: None}))  # type: ignore[arg-type] # either may be missing
