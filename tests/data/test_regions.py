"""Regions and their selections, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.regions import Regions, TitleTokens, select, selected
from tests.model.conftest import TinyShop

FACE, HAND, SHOE, BAG = 29, 32, 1, 2
PEOPLE = (29, 30, 31, 32)


def photos_of(
    lengths: list[int], areas: list[float] | None = None, labels: list[int] | None = None
) -> Regions:
    """Regions numbered from 0 on, with areas and labels where given."""
    count = sum(lengths)
    boxes = torch.tensor([[0.0, 0.0, 1000 * area, 1000.0] for area in areas or [0.5] * count])
    return Regions(
        features=torch.arange(float(count))[:, None].repeat(1, 3),
        counts=torch.tensor(lengths),
        boxes=boxes,
        photo_sizes=torch.full((count, 2), 1000),
        labels=torch.tensor(labels or [SHOE] * count),
    )


def test_geometry_counted_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 100, 200], [25, 50, 75, 100], [10, 20, 10, 60]])
    sizes = torch.tensor([[100, 200]] * 3)  # height, width
    wanted: list[list[float]] = [
        [0, 0, 1, 1, 1, 0],
        [0.25, 0.25, 0.75, 0.5, 0.5 * 0.25, math.log(2)],
        [0.1, 0.1, 0.1, 0.3, 1e-3 * 0.2, math.log(1e-3 / 0.2)],  # without any height
    ]
    got = Regions(torch.zeros(3, 2), torch.tensor([3]), boxes, sizes).geometry
    assert got is not None
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)


def test_starts_and_owners_counted_by_hand() -> None:
    photos = photos_of([2, 1, 3])
    assert photos.owners.tolist() == [0, 0, 1, 2, 2, 2]
    assert photos.starts.tolist() == [0, 2, 3]


def test_labels_are_skipped_but_never_all_regions_of_a_product() -> None:
    labels = [FACE, SHOE, HAND, 30, 31, SHOE, BAG, 28, FACE]
    photos = photos_of([3, 2, 3, 1], labels=labels)
    assert selected(photos, PEOPLE, None).tolist() == [1, 3, 4, 5, 6, 7, 8]
    chosen = select(photos, PEOPLE, None)
    assert chosen.counts.tolist() == [1, 2, 3, 1]
    assert chosen.features[:, 0].tolist() == [1, 3, 4, 5, 6, 7, 8]
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [SHOE, 30, 31, SHOE, BAG, 28, FACE]


def test_largest_keep_their_order_and_ties_go_to_the_earlier() -> None:
    photos = photos_of([4, 1, 3], areas=[0.1, 0.4, 0.2, 0.4, 0.9, 0.3, 0.3, 0.3])
    assert selected(photos, (), 2).tolist() == [1, 3, 4, 5, 6]
    assert selected(photos, (), 1).tolist() == [1, 4, 5]
    assert selected(photos, (), 3).tolist() == [1, 2, 3, 4, 5, 6, 7]
    chosen = select(photos, (), 2)
    assert chosen.counts.tolist() == [2, 1, 2]
    assert chosen.geometry is not None
    assert chosen.geometry[:, 4].tolist() == pytest.approx([0.4, 0.4, 0.9, 0.3, 0.3])


@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    largest=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_selections_are_those_of_a_loop(lengths: list[int], largest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    areas = (rng.integers(1, 5, sum(lengths)) / 8).tolist()  # few values: many ties
    labels = rng.integers(26, 33, sum(lengths)).tolist()
    photos = photos_of(lengths, areas, labels)
    goods, biggest, both, start = [], [], [], 0
    for length in lengths:
        rows = range(start, start + length)
        others = [row for row in rows if labels[row] not in PEOPLE] or list(rows)
        goods += others
        biggest += sorted(sorted(rows, key=lambda row: (-areas[row], row))[:largest])
        both += sorted(sorted(others, key=lambda row: (-areas[row], row))[:largest])
        start += length
    assert selected(photos, PEOPLE, None).tolist() == goods
    assert selected(photos, (), largest).tolist() == biggest
    assert selected(photos, PEOPLE, largest).tolist() == both
    assert int(select(photos, (), largest).counts.sum()) == len(biggest)


def test_all_changes_nothing_and_needs_no_boxes() -> None:
    bare = Regions(torch.rand(3, 2), torch.tensor([1, 2]))
    assert select(bare, (), None) is bare
    assert selected(bare, (), None).tolist() == [0, 1, 2]


def test_selections_without_what_they_need_are_refused() -> None:
    photos = photos_of([2, 1])
    with pytest.raises(ValueError, match="regions to skip need labels"):
        select(replace(photos, labels=None), PEOPLE, None)
    for missing in ("boxes", "photo_sizes"):
        with pytest.raises(ValueError, match="the largest regions need boxes"):
            select(replace(photos, **{missing: None}), (), 2)  # type: ignore[arg-type] # a field's name


def test_taking_names_regions_in_any_order_and_more_than_once() -> None:
    photos = photos_of([2, 2], areas=[0.1, 0.2, 0.3, 0.4], labels=[1, 2, 3, 4])
    taken = photos.take_regions(torch.tensor([3, 0, 3]), torch.tensor([2, 1]))
    assert taken.features[:, 0].tolist() == [3, 0, 3]
    assert taken.counts.tolist() == [2, 1]
    assert taken.geometry is not None
    assert taken.labels is not None
    assert taken.geometry[:, 4].tolist() == pytest.approx([0.4, 0.1, 0.4])
    assert taken.labels.tolist() == [4, 1, 4]
    bare = Regions(photos.features, photos.counts).take_regions(torch.tensor([1]), torch.tensor([1]))
    assert bare.geometry is None
    assert bare.labels is None


def test_parts_lie_end_to_end() -> None:
    photos = photos_of([2, 1, 3], labels=[1, 2, 3, 4, 5, 6])
    middle = photos.part(1, 3)
    assert middle.counts.tolist() == [1, 3]
    assert middle.features[:, 0].tolist() == [2, 3, 4, 5]
    assert middle.labels is not None
    assert middle.labels.tolist() == [3, 4, 5, 6]
    together = torch.cat([photos.part(n, n + 1).features for n in range(3)])
    assert torch.equal(together, photos.features)
    assert len(photos.part(1, 1).features) == 0


def test_other_features_leave_the_rest_as_it_was() -> None:
    photos = photos_of([2, 1])
    other = photos.with_features(torch.ones(3, 5))
    assert torch.equal(other.features, torch.ones(3, 5))
    assert other.counts is photos.counts
    assert other.boxes is photos.boxes
    assert other.labels is photos.labels


def test_square_roots_keep_the_sign() -> None:
    photos = Regions(torch.tensor([[4.0, -9.0, 0.0]], dtype=torch.float16), torch.tensor([1]))
    assert photos.rooted().features.tolist() == [[2.0, -3.0, 0.0]]


def test_photos_of_a_dataset_are_its_rows(tiny_shop: TinyShop) -> None:
    rows = np.array([5, 0, 5])
    photos = tiny_shop.train.regions(rows, boxes=True)
    assert photos.counts.tolist() == tiny_shop.train.region_counts[rows].tolist()
    first = int(photos.counts[0])
    assert torch.equal(photos.part(0, 1).features, photos.part(2, 3).features)
    assert photos.geometry is not None
    assert photos.labels is not None
    assert set(photos.labels.tolist()) == {28}
    # the fixture's boxes are [0, 0, 20, 30] in a photo 20 px high and 30 px wide, or the other way round
    shape = photos.geometry[0].tolist()
    height, width = tiny_shop.train.image_sizes(rows)[0].tolist()
    assert shape == pytest.approx(
        [0, 0, 20 / height, 30 / width, 600 / height / width, math.log((20 / height) / (30 / width))]
    )
    assert torch.equal(photos.geometry[:first], photos.geometry[:1].expand(first, -1))
    bare = tiny_shop.train.regions(rows, boxes=False)
    assert bare.geometry is None
    assert torch.equal(bare.features, photos.features)


def test_square_roots_are_the_same_with_and_without_gradients() -> None:
    regions = torch.tensor([[-4.0, 0.0, 9.0, 0.25]])
    plain = Regions(regions, torch.tensor([1]))
    asked = Regions(regions.clone().requires_grad_(), torch.tensor([1]))
    wanted = [[-2.0, 0.0, 3.0, 0.5]]
    assert plain.rooted().features.tolist() == wanted
    assert asked.rooted().features.tolist() == wanted
    assert plain.features.tolist() == [[-4.0, 0.0, 9.0, 0.25]]
    assert Regions(regions.half(), torch.tensor([1])).rooted().features.tolist() == wanted


def test_titles_go_with_their_products() -> None:
    titles = TitleTokens(torch.tensor([5, 6, 7, 8]), torch.tensor([1, 0, 3]))
    photos = replace(photos_of([2, 1, 3]), titles=titles)

    def titles_of(regions: Regions) -> list[list[int]]:
        assert regions.titles is not None
        own = torch.split(regions.titles.tokens, regions.titles.lengths.tolist())
        return [tokens.tolist() for tokens in own]

    assert titles_of(photos.take(torch.tensor([2, 1, 0, 2]))) == [[6, 7, 8], [], [5], [6, 7, 8]]
    assert [titles_of(photos.part(start, 3)) for start in range(3)] == [
        [[5], [], [6, 7, 8]],
        [[], [6, 7, 8]],
        [[6, 7, 8]],
    ]
    assert titles_of(select(photos, (), 1)) == titles_of(photos) == titles_of(photos.to(torch.device("cpu")))
    untitled = photos_of([1, 1])
    assert titles_of(Regions.join([untitled, photos])) == [[], [], [5], [], [6, 7, 8]]
    assert Regions.join([untitled, untitled]).titles is None
