"""What does a model see of a product? Its regions: features, boxes and labels, from file to tensor; and its title.

`Regions` is the one record that training, ranking, indexing and explaining hand on. Knows no file and no tower.

Legend of axes: regions = the regions of all products, end to end; products = the products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_LEAST_SHARE: Final = 1e-3
"""The least height and width of a box, as shares of its photo."""


@dataclass(frozen=True)
class TitleTokens:
    """The titles of some products as tokens, end to end.

    `lengths` says how many each product has, 0 without a title, and stays on the host.
    """

    tokens: Int64[Tensor, " tokens"]
    lengths: Int64[Tensor, " products"]

    @classmethod
    def none(cls, products: int) -> TitleTokens:
        """Those of so many products without a title."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(products, dtype=torch.int64))

    def to(self, device: torch.device) -> TitleTokens:
        """The same on a device, lengths on the host."""
        return TitleTokens(self.tokens.to(device, non_blocking=True), self.lengths)

    def take(self, products: Int64[Tensor, " chosen"]) -> TitleTokens:
        """Those of some of the products, in the order named."""
        return TitleTokens(
            self.tokens[places_of(self.lengths, products).to(self.tokens.device)], self.lengths[products]
        )

    def part(self, start: int, end: int) -> TitleTokens:
        """Those of the products from `start` to before `end`: views, no copies."""
        first, last = int(self.lengths[:start].sum()), int(self.lengths[:end].sum())
        return TitleTokens(self.tokens[first:last], self.lengths[start:end])

    @classmethod
    def join(cls, parts: Sequence[TitleTokens]) -> TitleTokens:
        """Those of the products of several, end to end."""
        return cls(torch.cat([part.tokens for part in parts]), torch.cat([part.lengths for part in parts]))


@dataclass(frozen=True)
class Regions:
    """The regions of some products, end to end.

    `counts` says how many each product has and stays on the host. `boxes` are (top, left, bottom, right) in px of the
    region's photo; `photo_sizes` are that photo's (height, width) in px; `photos` numbers it within its product, from
    0. All but features and counts may be None: not read. `titles` are the products' own, None where no model asked.
    """

    features: Float[Tensor, "regions values"]
    counts: Int64[Tensor, " products"]
    boxes: Float[Tensor, "regions 4"] | None = None
    photo_sizes: Int64[Tensor, "regions 2"] | None = None
    labels: Int64[Tensor, " regions"] | None = None
    photos: Int64[Tensor, " regions"] | None = None
    titles: TitleTokens | None = None

    def to(self, device: torch.device) -> Regions:
        """The same on a device, counts on the host."""
        moved = self._each(lambda values: values.to(device, non_blocking=True))
        return replace(moved, titles=self.titles and self.titles.to(device))

    def take(self, products: Int64[Tensor, " chosen"]) -> Regions:
        """Some of the products, in the order named. A product may be named more than once."""
        places = places_of(self.counts, products).to(self.features.device)
        chosen = self.take_regions(places, self.counts[products])
        return replace(chosen, titles=self.titles and self.titles.take(products))

    def take_regions(self, places: Int64[Tensor, " kept"], counts: Int64[Tensor, " products"]) -> Regions:
        """Some of the regions, in the order named, so that the same products have these counts."""
        return replace(self._each(lambda values: values[places]), counts=counts)

    def part(self, start: int, end: int) -> Regions:
        """The products from `start` to before `end`: views, no copies."""
        first, last = int(self.counts[:start].sum()), int(self.counts[:end].sum())
        own = self._each(lambda values: values[first:last])
        titles = self.titles and self.titles.part(start, end)
        return replace(own, counts=self.counts[start:end], titles=titles)

    @classmethod
    def join(cls, parts: Sequence[Regions]) -> Regions:
        """The products of several, end to end, with the fields that all of them have, and the titles of any."""
        joined = {
            field.name: None
            if any(getattr(part, field.name) is None for part in parts)
            else torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name != "titles"
        }
        titles = None
        if any(part.titles for part in parts):
            titles = TitleTokens.join([part.titles or TitleTokens.none(len(part.counts)) for part in parts])
        return cls(**joined, titles=titles)  # type: ignore[arg-type] # features and counts are never None

    def with_features(self, features: Float[Tensor, "regions values"]) -> Regions:
        """The same regions with other features."""
        return replace(self, features=features)

    def rooted(self) -> Regions:
        """The same with signed square roots, sign(x) sqrt(|x|): they spread values that are like counts evenly.

        Negative values, as other detectors give them, keep their sign. float32.
        """
        values = self.features.float()
        if values.requires_grad:
            return self.with_features(values.sign() * values.abs().sqrt())
        # In place: of a large batch, new memory costs more than the arithmetic.
        return self.with_features(values.abs().sqrt_().copysign_(values))

    @property
    def owners(self) -> Int64[Tensor, " regions"]:
        """The product of each region, on the device of the features."""
        products = torch.arange(len(self.counts))
        return torch.repeat_interleave(products, self.counts).to(self.features.device)

    @property
    def starts(self) -> Int64[Tensor, " products"]:
        """Where each product's first region lies, on the device of the features."""
        return (self.counts.cumsum(0) - self.counts).to(self.features.device)

    @property
    def photo_starts(self) -> Int64[Tensor, " photos"]:
        """Where the first region of each photo lies; of each product where photos were not read."""
        if self.photos is None:
            return self.starts
        first = torch.ones_like(self.photos, dtype=torch.bool)
        first[1:] = self.photos[1:] != self.photos[:-1]
        first[self.starts] = True
        return torch.nonzero(first)[:, 0]

    @property
    def geometry(self) -> Float[Tensor, "regions 6"] | None:
        """Each box as shares of its photo: its four sides, its area, log(height / width). None without boxes.

        A box thinner than a thousandth of its photo counts as that wide.
        """
        if self.boxes is None or self.photo_sizes is None:
            return None
        shares = self.boxes.float() / self.photo_sizes[:, [0, 1, 0, 1]]
        height = (shares[:, 2] - shares[:, 0]).clamp(min=_LEAST_SHARE)
        width = (shares[:, 3] - shares[:, 1]).clamp(min=_LEAST_SHARE)
        return torch.column_stack([shares, height * width, torch.log(height / width)])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Regions:
        """The same with every field of regions changed."""
        changed = {
            field.name: change(values)
            for field in fields(self)
            if field.name not in ("counts", "titles") and (values := getattr(self, field.name)) is not None
        }
        return replace(self, **changed, titles=self.titles)


def select(regions: Regions, skip: tuple[int, ...], largest: int | None) -> Regions:
    """The regions that are looked at (`selected`)."""
    if not skip and largest is None:
        return regions
    places = selected(regions, skip, largest)
    return regions.take_regions(places, _counts(regions.owners[places], len(regions.counts)).cpu())


def selected(regions: Regions, skip: tuple[int, ...], largest: int | None) -> Int64[Tensor, " kept"]:
    """The places of the regions that are looked at, in their order.

    Regions whose label is in `skip` are left out, but for a product that would lose all of them. Of those left each
    product keeps the `largest` of largest area (of equal areas the earlier); None: all.
    Raises: ValueError where the regions come without the boxes or labels that this needs.
    """
    owners = regions.owners
    keep = torch.ones_like(owners, dtype=torch.bool)
    if skip:
        if regions.labels is None:
            raise ValueError("regions to skip need labels")
        keep = ~torch.isin(regions.labels, torch.tensor(skip, device=owners.device))
        keep |= (_counts(owners[keep], len(regions.counts)) == 0)[owners]
    places = torch.nonzero(keep)[:, 0]
    if largest is None:
        return places
    if regions.geometry is None:
        raise ValueError("the largest regions need boxes")
    area, owner = regions.geometry[places, 4], owners[places]
    by_area = torch.argsort(area, descending=True, stable=True)
    by_product = by_area[torch.argsort(owner[by_area], stable=True)]
    counts = _counts(owner, len(regions.counts))
    rank = torch.empty_like(by_product)
    rank[by_product] = (
        torch.arange(len(rank), device=rank.device) - (counts.cumsum(0) - counts)[owner[by_product]]
    )
    return places[rank < largest]


def places_of(lengths: Int64[Tensor, " sequences"], rows: Int64[Tensor, " rows"]) -> Int64[Tensor, " places"]:
    """Where the members of some sequences lie, sequence after sequence in the order named.

    >>> places_of(torch.tensor([2, 1, 3]), torch.tensor([2, 0])).tolist()
    [3, 4, 5, 0, 1]
    """
    starts, chosen = lengths.cumsum(0) - lengths, lengths[rows]
    shift = torch.repeat_interleave(starts[rows] - (chosen.cumsum(0) - chosen), chosen)
    return torch.arange(len(shift)) + shift


def _counts(owners: Int64[Tensor, " regions"], products: int) -> Int64[Tensor, " products"]:
    return torch.bincount(owners, minlength=products)
