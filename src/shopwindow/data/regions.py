"""What does a model see of a product? Its regions: features, boxes and labels, from file to tensor.

`Regions` is the one record that training, ranking, indexing and explaining hand on. Knows no file and no tower.

Legend of axes: regions = the regions of all products, end to end; products = the products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

PEOPLE: Final = (29, 30, 31, 32)
"""The competition's labels of face, arm, hair and hand."""
_LEAST_SHARE: Final = 1e-3
"""The least height and width of a box, as shares of its photo."""
Selection = Literal["all", "goods", "largest"]
Features = Literal["raw", "sqrt"]


@dataclass(frozen=True)
class Regions:
    """The regions of some products, end to end.

    `counts` says how many each product has and stays on the host. `boxes` are (top, left, bottom, right) in px of the
    region's photo; `photo_sizes` are that photo's (height, width) in px; `photos` numbers it within its product, from
    0. All but features and counts may be None: not read.
    """

    features: Float[Tensor, "regions values"]
    counts: Int64[Tensor, " products"]
    boxes: Float[Tensor, "regions 4"] | None = None
    photo_sizes: Int64[Tensor, "regions 2"] | None = None
    labels: Int64[Tensor, " regions"] | None = None
    photos: Int64[Tensor, " regions"] | None = None

    def to(self, device: torch.device) -> Regions:
        """The same on a device, counts on the host."""
        return self._each(lambda values: values.to(device, non_blocking=True))

    def take(self, products: Int64[Tensor, " chosen"]) -> Regions:
        """Some of the products, in the order named. A product may be named more than once."""
        counts = self.counts[products]
        starts = (self.counts.cumsum(0) - self.counts)[products] - (counts.cumsum(0) - counts)
        places = torch.repeat_interleave(starts, counts) + torch.arange(int(counts.sum()))
        return self.take_regions(places.to(self.features.device), counts)

    def take_regions(self, places: Int64[Tensor, " kept"], counts: Int64[Tensor, " products"]) -> Regions:
        """Some of the regions, in the order named, of products with these counts."""
        return replace(self._each(lambda values: values[places]), counts=counts)

    def part(self, start: int, end: int) -> Regions:
        """The products from `start` to before `end`: views, no copies."""
        first, last = int(self.counts[:start].sum()), int(self.counts[:end].sum())
        return replace(self._each(lambda values: values[first:last]), counts=self.counts[start:end])

    @classmethod
    def join(cls, parts: Sequence[Regions]) -> Regions:
        """The products of several, end to end, with the fields that all of them have."""
        joined = {
            field.name: None
            if any(getattr(part, field.name) is None for part in parts)
            else torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(cls)
        }
        return cls(**joined)  # type: ignore[arg-type] # features and counts are never None

    def with_features(self, features: Float[Tensor, "regions values"]) -> Regions:
        """The same regions with other features."""
        return replace(self, features=features)

    def scaled(self, features: Features) -> Regions:
        """The same in float32: raw, or signed square roots (they spread values that are like counts evenly)."""
        values = self.features.float()
        if features == "raw":
            return self.with_features(values)
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
            if field.name != "counts" and (values := getattr(self, field.name)) is not None
        }
        return replace(self, **changed)


def select(regions: Regions, rule: Selection, largest: int) -> Regions:
    """The regions that a rule keeps (`selected`)."""
    if rule == "all":
        return regions
    places = selected(regions, rule, largest)
    return regions.take_regions(places, _counts(regions.owners[places], len(regions.counts)).cpu())


def selected(regions: Regions, rule: Selection, largest: int) -> Int64[Tensor, " kept"]:
    """The places of the regions that a rule keeps, in their order; of a photo that would lose all of them, all stay.

    `goods` drops faces, arms, hair and hands; `largest` keeps each photo's `largest` regions of largest area (of equal
    areas the earlier). Raises: ValueError where the photos come without boxes and labels.
    """
    if rule == "all":
        return torch.arange(len(regions.features), device=regions.features.device)
    if regions.geometry is None or regions.labels is None:
        raise ValueError(f"the selection {rule!r} needs boxes and labels")
    owners = regions.owners
    if rule == "goods":
        people = torch.isin(regions.labels, torch.tensor(PEOPLE, device=regions.labels.device))
        kept = _counts(owners[~people], len(regions.counts))
        keep = ~people | (kept[owners] == 0)
    else:
        by_area = torch.argsort(regions.geometry[:, 4], descending=True, stable=True)
        by_photo = by_area[torch.argsort(owners[by_area], stable=True)]
        place = torch.empty_like(by_photo)
        place[by_photo] = torch.arange(len(by_photo), device=by_photo.device)
        keep = place - regions.starts[owners] < largest
    return torch.nonzero(keep)[:, 0]


def _counts(owners: Int64[Tensor, " tokens"], photos: int) -> Int64[Tensor, " photos"]:
    return torch.bincount(owners, minlength=photos)
