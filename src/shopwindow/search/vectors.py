"""How is a vector kept in fewer bytes, and what is its score with a query then?

A `Coding` says how: how many leading values (a Matryoshka-style prefix), in which precision. A `Coder` is a
coding fitted to vectors: it turns vectors into codes and scores codes against queries. Knows no file.

A value v of dimension d is kept as (v - centre[d]) / scale[d]: rounded to a byte (int8), or only its sign
(binary). As q . v = q . centre + (q * scale) . code, codes are scored without unpacking them into vectors, and
the centre of the products, which every score shares, costs no bit.

Legend of axes: hidden = values of a vector as the model gives it, kept = those that are kept, bytes = kept / 8.
Source: leading values as vectors, Kusupati et al. 2022, "Matryoshka Representation Learning".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8

Precision = Literal["float32", "int8", "binary"]
_LARGEST: Final = 127


@dataclass(frozen=True)
class Coding:
    """How vectors are kept. `dimensions` leading values (all: None) in `precision`.

    `rescore`: with which vectors the first candidates are scored anew: the whole ones ("float32"), whole ones
    in a byte a value ("int8"), or none but the codes themselves. Whole float32 codes need none.

    Raises: ValueError for dimensions below 1, or not a multiple of 8 in binary.
    """

    precision: Precision = "float32"
    dimensions: int | None = None
    rescore: Literal["float32", "int8", "none"] = "float32"

    def __post_init__(self) -> None:
        if self.dimensions is not None and self.dimensions < 1:
            raise ValueError(f"dimensions {self.dimensions}: at least 1 is wanted")
        if self.precision == "binary" and self.dimensions is not None and self.dimensions % 8:
            raise ValueError(f"dimensions {self.dimensions}: a multiple of 8 is wanted for binary codes")

    def bytes_per_product(self, hidden: int) -> tuple[int, int]:
        """Bytes of a product's code, which every scan reads, and of what re-scoring reads of few products."""
        kept = min(self.dimensions or hidden, hidden)
        code = {"float32": 4 * kept, "int8": kept, "binary": kept // 8}[self.precision]
        return code, {"float32": 4 * hidden, "int8": hidden, "none": 0}[self.needs_rescoring(hidden)]

    def needs_rescoring(self, hidden: int) -> Literal["float32", "int8", "none"]:
        """What is kept for re-scoring of vectors of this size: nothing where the codes are the vectors."""
        whole = self.precision == "float32" and (self.dimensions is None or self.dimensions >= hidden)
        return "none" if whole else self.rescore

    def finest_width(self, hidden: int) -> int:
        """Values of the finest vectors kept: all of them, or the leading ones where nothing else is kept."""
        if self.dimensions is None or self.needs_rescoring(hidden) != "none":
            return hidden
        return min(self.dimensions, hidden)

    def keeps_all(self, hidden: int) -> bool:
        """Whether the whole float32 vectors are kept, as codes or for re-scoring."""
        code, more = self.bytes_per_product(hidden)
        return 4 * hidden in (code, more)


@dataclass(frozen=True)
class Coder:
    """A coding fitted to vectors. `unit`: vectors have length 1, so a prefix of one is made so again."""

    precision: Precision
    unit: bool
    centre: Float32[np.ndarray, " kept"]
    scale: Float32[np.ndarray, " kept"]

    @classmethod
    def fit(
        cls,
        vectors: Float32[np.ndarray, "products hidden"],
        *,
        precision: Precision,
        dimensions: int | None = None,
        unit: bool,
    ) -> Coder:
        """The coder of vectors, a sample of them is enough.

        Raises: ValueError for binary codes of a number of values that is no multiple of 8.
        """
        kept = _prefix(vectors, dimensions or vectors.shape[1], unit)
        width = kept.shape[1]
        if precision == "binary" and width % 8:
            raise ValueError(f"binary codes need a multiple of 8 values, the vectors have {width}")
        if precision == "float32":
            return cls(precision, unit, np.zeros(width, np.float32), np.ones(width, np.float32))
        centre = kept.mean(0) if len(kept) else np.zeros(width, np.float32)
        away = np.abs(kept - centre)
        if precision == "int8":
            scale = away.max(0, initial=0.0) / _LARGEST
        else:
            scale = away.mean(0) if len(kept) else np.ones(width, np.float32)
        scale[scale == 0] = 1.0
        return cls(precision, unit, centre.astype(np.float32), scale.astype(np.float32))

    def encode(self, vectors: Float32[np.ndarray, "products hidden"]) -> Shaped[np.ndarray, "products code"]:
        """The codes: float32 or int8 a value, or a bit a value, eight to a byte."""
        kept = _prefix(vectors, len(self.centre), self.unit)
        if self.precision == "float32":
            return np.ascontiguousarray(kept, np.float32)
        away = (kept - self.centre) / self.scale
        if self.precision == "binary":
            return np.packbits(away > 0, axis=1)
        codes: np.ndarray = np.clip(np.rint(away), -_LARGEST, _LARGEST).astype(np.int8)
        return codes

    def decode(self, codes: Shaped[np.ndarray, "products code"]) -> Float32[np.ndarray, "products kept"]:
        """The vectors that the codes stand for."""
        if self.precision == "float32":
            return np.asarray(codes, np.float32)
        values = codes if self.precision == "int8" else _signs(codes)
        decoded: np.ndarray = values.astype(np.float32) * self.scale + self.centre
        return decoded

    def ask(self, queries: Float32[np.ndarray, "queries hidden"]) -> Float32[np.ndarray, "queries kept"]:
        """The queries as `scan` and `score` take them: their leading values, of length 1 where vectors are."""
        return _prefix(queries, len(self.centre), self.unit)

    def scan(
        self,
        asked: Float32[np.ndarray, "queries kept"],
        codes: Shaped[np.ndarray, "products code"],
    ) -> Float32[np.ndarray, "queries products"]:
        """Quick scores that order the codes of one coder; comparable only within it and a query.

        Of binary codes: how many signs agree with the query's.
        """
        if self.precision == "float32":
            whole: np.ndarray = asked @ codes.T
            return whole
        if self.precision == "int8":
            rounded: np.ndarray = (asked * self.scale) @ codes.astype(np.float32).T
            return rounded
        return np.stack([-_differing(row, codes) for row in np.packbits(asked > 0, axis=1)])

    def score(
        self,
        asked: Float32[np.ndarray, " kept"],
        codes: Shaped[np.ndarray, "products code"],
    ) -> Float[np.ndarray, " products"]:
        """The dot product of one query with the vectors that the codes stand for, in float64.

        Row by row in one order of summing, so that equal codes have equal scores wherever they stand.
        """
        scores: np.ndarray = np.einsum(
            "ph,h->p", self.decode(codes).astype(np.float64), asked.astype(np.float64)
        )
        return scores


def _prefix(
    vectors: Float[np.ndarray, "rows hidden"], kept: int, unit: bool
) -> Float[np.ndarray, "rows kept"]:
    """The leading values; made of length 1 again where the whole vectors are."""
    if kept >= vectors.shape[1]:
        return vectors
    short = vectors[:, :kept]
    if not unit:
        return np.ascontiguousarray(short)
    lengths = np.sqrt(np.einsum("rk,rk->r", short, short))[:, None]
    unit_length: np.ndarray = np.divide(short, lengths, out=np.zeros_like(short), where=lengths > 0)
    return unit_length


def _signs(codes: UInt8[np.ndarray, "products bytes"]) -> Float32[np.ndarray, "products kept"]:
    bits: Bool[np.ndarray, "products kept"] = np.unpackbits(codes, axis=1).view(bool)
    return np.where(bits, np.float32(1), np.float32(-1))


def _differing(
    one: UInt8[np.ndarray, " bytes"], codes: UInt8[np.ndarray, "products bytes"]
) -> Float32[np.ndarray, " products"]:
    """In how many bits each code differs from one. Eight bytes at a time where they come so."""
    if codes.shape[1] % 8 == 0 and codes.flags.c_contiguous:
        differs = codes.view(np.uint64) ^ one.view(np.uint64)
    else:
        differs = codes ^ one
    count: np.ndarray = np.bitwise_count(differs).sum(1, dtype=np.int32).astype(np.float32)
    return count
