"""How do photos come to a tower: regions end to end, and what the detector says of each?

`Photos` is what every path hands to a photo tower: training, ranking, indexing, explaining. Knows no tower.

Legend of axes: tokens = the regions of all photos, end to end; photos = the photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shopwindow.data.dataset import Dataset
from shopwindow.model.packing import Lengths

PEOPLE: Final = (29, 30, 31, 32)
"""The competition's labels of face, arm, hair and hand."""
Selection = Literal["all", "goods", "largest"]
Features = Literal["raw", "sqrt"]


@dataclass(frozen=True)
class Photos:
    """Photos whose regions lie end to end. `lengths` stay on the host; boxes and labels are there or not."""

    regions: Float[Tensor, "tokens features"]
    lengths: Lengths
    geometry: Float[Tensor, "tokens 6"] | None = None
    labels: Int64[Tensor, " tokens"] | None = None

    @classmethod
    def of(cls, dataset: Dataset, products: Int64[np.ndarray, " photos"], *, boxes: bool) -> Photos:
        """Photos of a dataset's rows, with their boxes and labels where wanted."""
        regions, lengths = dataset.regions(products)
        photos = cls(torch.from_numpy(regions), torch.from_numpy(lengths))
        return photos.located(dataset, products) if boxes else photos

    def located(self, dataset: Dataset, products: Int64[np.ndarray, " photos"]) -> Photos:
        """The same with boxes and labels, from the rows that these photos are."""
        sizes = np.repeat(dataset.image_sizes(products), self.lengths.numpy(), axis=0)
        return replace(
            self,
            geometry=torch.from_numpy(geometry(dataset.boxes(products), sizes)),
            labels=torch.from_numpy(dataset.labels(products)),
        )

    def to(self, device: torch.device) -> Photos:
        """The same on a device, lengths on the host."""
        return replace(
            self,
            regions=self.regions.to(device, non_blocking=True),
            geometry=None if self.geometry is None else self.geometry.to(device, non_blocking=True),
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
        )

    def taking(self, tokens: Int64[Tensor, " kept"], lengths: Lengths) -> Photos:
        """Photos of some of these regions, in the order named (a region may be named more than once)."""
        return replace(
            self,
            regions=self.regions[tokens],
            lengths=lengths,
            geometry=None if self.geometry is None else self.geometry[tokens],
            labels=None if self.labels is None else self.labels[tokens],
        )

    @classmethod
    def join(cls, parts: Sequence[Photos]) -> Photos:
        """The photos of several, end to end; without boxes and labels."""
        return cls(torch.cat([part.regions for part in parts]), torch.cat([part.lengths for part in parts]))

    def rows(self, photos: Int64[Tensor, " asked"]) -> Photos:
        """Some of the photos, in the order named (a photo may be named more than once)."""
        lengths = self.lengths[photos]
        starts = (self.lengths.cumsum(0) - self.lengths)[photos] - (lengths.cumsum(0) - lengths)
        tokens = torch.repeat_interleave(starts, lengths) + torch.arange(int(lengths.sum()))
        return self.taking(tokens.to(self.regions.device), lengths)

    def part(self, start: int, end: int) -> Photos:
        """The photos from the `start`-th to before the `end`-th: views, no copies."""
        first, last = int(self.lengths[:start].sum()), int(self.lengths[:end].sum())
        return replace(
            self,
            regions=self.regions[first:last],
            lengths=self.lengths[start:end],
            geometry=None if self.geometry is None else self.geometry[first:last],
            labels=None if self.labels is None else self.labels[first:last],
        )

    def with_regions(self, regions: Float[Tensor, "tokens features"]) -> Photos:
        """The same photos with other features."""
        return replace(self, regions=regions)

    def scaled(self, features: Features) -> Photos:
        """The same in float32: raw, or the signed square roots (square roots of counts-like values spread evenly)."""
        regions = self.regions.float()
        if features == "raw":
            return self.with_regions(regions)
        if regions.requires_grad:
            return self.with_regions(regions.sign() * regions.abs().sqrt())
        # In place: of a large batch, new memory costs more than the arithmetic.
        return self.with_regions(regions.abs().sqrt_().copysign_(regions))

    @property
    def owners(self) -> Int64[Tensor, " tokens"]:
        """To which photo each region belongs, on the device of the regions."""
        photos = torch.arange(len(self.lengths))
        return torch.repeat_interleave(photos, self.lengths).to(self.regions.device)

    @property
    def starts(self) -> Int64[Tensor, " photos"]:
        """Where each photo's first region lies, on the device of the regions."""
        return (self.lengths.cumsum(0) - self.lengths).to(self.regions.device)


def geometry(
    boxes: Float[np.ndarray, "tokens 4"], sizes: Int64[np.ndarray, "tokens 2"]
) -> Float[np.ndarray, "tokens 6"]:
    """A box as shares of its photo: its four sides, its area, and log(height / width), float32.

    `sizes` are (height, width) in px of the photo of each box. A box without any height or width counts as one of a
    thousandth of the photo.
    """
    shares = boxes / sizes[:, [0, 1, 0, 1]].astype(np.float32)
    height = np.maximum(shares[:, 2] - shares[:, 0], 1e-3)
    width = np.maximum(shares[:, 3] - shares[:, 1], 1e-3)
    found = np.column_stack([shares, height * width, np.log(height / width)])
    return found.astype(np.float32)


def select(photos: Photos, rule: Selection, largest: int) -> Photos:
    """The regions that a rule keeps (`selected`)."""
    if rule == "all":
        return photos
    tokens = selected(photos, rule, largest)
    return photos.taking(tokens, _counts(photos.owners[tokens], len(photos.lengths)).cpu())


def selected(photos: Photos, rule: Selection, largest: int) -> Int64[Tensor, " kept"]:
    """The places of the regions that a rule keeps, in their order; of a photo that would lose all of them, all stay.

    `goods` drops faces, arms, hair and hands; `largest` keeps each photo's `largest` regions of largest area (of equal
    areas the earlier). Raises: ValueError where the photos come without boxes and labels.
    """
    if rule == "all":
        return torch.arange(len(photos.regions), device=photos.regions.device)
    if photos.geometry is None or photos.labels is None:
        raise ValueError(f"the selection {rule!r} needs boxes and labels")
    owners = photos.owners
    if rule == "goods":
        people = torch.isin(photos.labels, torch.tensor(PEOPLE, device=photos.labels.device))
        kept = _counts(owners[~people], len(photos.lengths))
        keep = ~people | (kept[owners] == 0)
    else:
        by_area = torch.argsort(photos.geometry[:, 4], descending=True, stable=True)
        by_photo = by_area[torch.argsort(owners[by_area], stable=True)]
        place = torch.empty_like(by_photo)
        place[by_photo] = torch.arange(len(by_photo), device=by_photo.device)
        keep = place - photos.starts[owners] < largest
    return torch.nonzero(keep)[:, 0]


def _counts(owners: Int64[Tensor, " tokens"], photos: int) -> Int64[Tensor, " photos"]:
    return torch.bincount(owners, minlength=photos)
