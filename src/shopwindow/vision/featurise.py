"""How do the pixels of a box become 2048 numbers, without any learned weight?

A fixed function, so that users can featurise photos of their own: cut the box out, bring it to 48 × 48 px, describe it
by colours, edges, textures and the grain from close by, standardise by constants, mix by a seeded random matrix, keep
what is above a threshold. The outcome looks like the competition's ResNet features (non-negative, many exact zeros, up
to about 7) and carries what the pixels carry: neighbours that overlap the box, the background, a hand.

Source: colour histograms after Swain and Ballard (1991); gradient histograms after Dalal and Triggs (2005); random
projections after Johnson and Lindenstrauss, with rectification as in random kitchen sinks (Rahimi and Recht 2007).
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

FEATURES: Final = 2048
SIDE: Final = 48  # px of the grid a box is brought to
_CELL: Final = 6  # px of a cell
_CELLS: Final = SIDE // _CELL  # 8 cells each way
_DIRECTIONS: Final = 8
_GROUPS: Final = 16  # of features; each group mixes its own quarter of the description
_HUES: Final = 12
_SEED: Final = 2020
_STEP: Final = (
    256  # features are multiples of 1/256: exact in float16; most rounding of other machines falls away
)


def region_features(
    photo: UInt8[np.ndarray, "h w 3"], boxes: Float32[np.ndarray, "n 4"]
) -> Float32[np.ndarray, "n 2048"]:
    """2048 numbers (0 to about 7) for each box (top, left, bottom, right) px of an RGB photo. About 1 ms a box.

    >>> grey = np.full((20, 30, 3), 128, dtype=np.uint8)
    >>> region_features(grey, np.array([[0, 0, 20, 30]], dtype=np.float32)).shape
    (1, 2048)
    """
    if len(boxes) == 0:
        return np.zeros((0, FEATURES), dtype=np.float32)
    blocks = _describe(_crops(photo, boxes)) | _describe_grain(_crops(photo, _middles(boxes)))
    described = np.concatenate([_standardised(name, block) for name, block in blocks.items()], axis=1)
    return np.asarray(
        np.round(np.maximum(_mixed(described) * _GAIN + _OFFSET, 0) * _STEP) / _STEP, dtype=np.float32
    )


def _crops(
    photo: UInt8[np.ndarray, "h w 3"], boxes: Float32[np.ndarray, "n 4"]
) -> Float32[np.ndarray, "n 48 48 3"]:
    """Each box at 48 × 48, colours 0 to 1."""
    height, width = photo.shape[:2]
    image = Image.fromarray(photo)
    cut = np.empty((len(boxes), SIDE, SIDE, 3), dtype=np.float32)
    for row, (top, left, bottom, right) in enumerate(boxes.tolist()):
        top, left = min(max(top, 0.0), height - 1.0), min(max(left, 0.0), width - 1.0)
        bottom, right = min(max(bottom, top + 1.0), float(height)), min(max(right, left + 1.0), float(width))
        frame = (left, top, right, bottom)
        cut[row] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=frame))
    return cut / np.float32(255)


def _describe(crops: Float32[np.ndarray, "n 48 48 3"]) -> dict[str, Float32[np.ndarray, "n d"]]:
    """The descriptor's blocks, each about 0 to 1."""
    n = len(crops)
    red, green, blue = (np.ascontiguousarray(crops[..., channel]) for channel in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    chroma, light = high - np.minimum(np.minimum(red, green), blue), (red + green + blue) / 3
    opponent = np.stack([light, red - green, (red + green) / 2 - blue], axis=-1)
    small = opponent.reshape(n, _CELLS, _CELL, _CELLS, _CELL, 3).mean(axis=(2, 4))
    hues = _hue_votes(crops, high, chroma, light)
    edges, strength = _edge_votes(light)
    centre = hues[:, 2:6, 2:6].mean(axis=(1, 2))
    contrast = np.abs(crops - crops.mean(axis=(1, 2), keepdims=True)).mean(axis=(1, 2))
    return {
        "layout": small.reshape(n, -1),
        "colours": np.sqrt(np.concatenate([centre, hues.mean(axis=(1, 2))], axis=1)),
        "colour cells": np.sqrt(hues.reshape(n, 4, 2, 4, 2, -1).mean(axis=(2, 4))).reshape(n, -1),
        "edges": edges.reshape(n, -1),
        "spectrum": _spectrum(light, opponent[..., 1], opponent[..., 2]),
        "texture": np.concatenate([_textures(light), contrast, strength], axis=1),
    }


def _middles(boxes: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    """The middle of each box, 48 × 48 px where the box is that large: what a surface looks like from close by."""
    half = np.minimum(boxes[:, 2:] - boxes[:, :2], SIDE) / 2
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    return np.asarray(np.round(np.concatenate([centre - half, centre + half], axis=1)), dtype=np.float32)


def _describe_grain(crops: Float32[np.ndarray, "n 48 48 3"]) -> dict[str, Float32[np.ndarray, "n d"]]:
    """The weave, grain or gloss of the middle of a box, in the photo's own resolution."""
    light = crops.mean(axis=-1)
    return {"grain": np.concatenate([_textures(light), _spectrum(light)], axis=1)}


def _hue_votes(
    crops: Float32[np.ndarray, "n s s 3"],
    high: Float32[np.ndarray, "n s s"],
    chroma: Float32[np.ndarray, "n s s"],
    light: Float32[np.ndarray, "n s s"],
) -> Float32[np.ndarray, "n 8 8 bins"]:
    """Per cell, how much of it has each hue (bright, dark) and each grey: soft votes that sum to 1."""
    n = len(crops)
    red, green, blue = crops[..., 0], crops[..., 1], crops[..., 2]
    safe = np.maximum(chroma, 1e-4)
    turn = np.where(
        high == red,
        ((green - blue) / safe) % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    place = turn * (_HUES / 6)
    vivid = np.clip((chroma / np.maximum(high, 0.15) - 0.12) / 0.25, 0, 1)
    lower = np.floor(place).astype(np.int32)
    share = place - lower
    dark = (high < 0.62).astype(np.int32) * _HUES
    level = np.clip(light * 6, 0, 5.999)
    grey = level.astype(np.int32)
    bins = 2 * _HUES + 6
    y, x = np.mgrid[0:SIDE, 0:SIDE] // _CELL
    cell = (np.arange(n)[:, None, None] * _CELLS + y) * _CELLS + x
    base = cell * bins
    votes = np.bincount(
        np.concatenate(
            [
                (base + dark + lower % _HUES).ravel(),
                (base + dark + (lower + 1) % _HUES).ravel(),
                (base + 2 * _HUES + grey).ravel(),
            ]
        ),
        weights=np.concatenate([(vivid * (1 - share)).ravel(), (vivid * share).ravel(), (1 - vivid).ravel()]),
        minlength=n * _CELLS * _CELLS * bins,
    )
    return (votes.reshape(n, _CELLS, _CELLS, bins) / _CELL**2).astype(np.float32)


def _edge_votes(
    light: Float32[np.ndarray, "n s s"],
) -> tuple[Float32[np.ndarray, "n 8 8 8"], Float32[np.ndarray, "n 8"]]:
    """Per cell, the strength of edges in 8 directions (half turn), normalised by the cell and its surroundings."""
    n = len(light)
    down, across = np.zeros_like(light), np.zeros_like(light)
    down[:, 1:-1] = light[:, 2:] - light[:, :-2]
    across[:, :, 1:-1] = light[:, :, 2:] - light[:, :, :-2]
    strength = np.sqrt(down * down + across * across)
    place = (np.arctan2(down, across) / np.pi % 1) * _DIRECTIONS
    lower = np.floor(place).astype(np.int32)
    share = place - lower
    y, x = np.mgrid[0:SIDE, 0:SIDE] // _CELL
    base = ((np.arange(n)[:, None, None] * _CELLS + y) * _CELLS + x) * _DIRECTIONS
    counted = np.bincount(
        np.concatenate([(base + lower % _DIRECTIONS).ravel(), (base + (lower + 1) % _DIRECTIONS).ravel()]),
        weights=np.concatenate([(strength * (1 - share)).ravel(), (strength * share).ravel()]),
        minlength=n * _CELLS * _CELLS * _DIRECTIONS,
    )
    votes = (counted.reshape(n, _CELLS, _CELLS, _DIRECTIONS) / _CELL**2).astype(np.float32)
    energy = np.sqrt((votes**2).sum(axis=-1, keepdims=True))
    around = 0.5 * energy + 0.5 * energy.mean(axis=(1, 2), keepdims=True)
    overall = np.sqrt(votes.mean(axis=(1, 2)))
    return np.asarray(votes / (around + np.float32(0.03))), overall


def _textures(channel: Float32[np.ndarray, "n s s"]) -> Float32[np.ndarray, "n d"]:
    """How alike a channel is to itself shifted 1 to 12 px in four directions, and how it varies at four scales."""
    n = len(channel)
    inner = channel[:, 8:40, 8:40]
    inner = inner - inner.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt((inner**2).mean(axis=(1, 2)))
    found = [np.sqrt(spread)[:, None]]
    power = (spread**2)[:, None] + 1e-4
    for shift in (1, 2, 3, 4, 6, 8, 10, 12):
        keep = 32 - shift
        pairs = (
            (inner[:, :, :keep], inner[:, :, shift:]),
            (inner[:, :keep], inner[:, shift:]),
            (inner[:, :keep, :keep], inner[:, shift:, shift:]),
            (inner[:, shift:, :keep], inner[:, :keep, shift:]),
        )
        found += [(one * other).mean(axis=(1, 2))[:, None] / power for one, other in pairs]
    for size in (2, 4, 8):
        blocks = channel.reshape(n, SIDE // size, size, SIDE // size, size)
        found.append(np.sqrt(blocks.std(axis=(2, 4)).mean(axis=(1, 2)))[:, None])
    return np.concatenate(found, axis=1).astype(np.float32)


def _spectrum(*channels: Float32[np.ndarray, "n s s"]) -> Float32[np.ndarray, "n d"]:
    """Which waves make up the middle, whatever their phase: tells stripes from dots and checks. Mean of 5 windows."""
    n = len(channels[0])
    total = np.zeros((n, 2, _WAVES, _WAVES), dtype=np.float32)
    for channel in channels:
        windows = np.stack([channel[:, y : y + 24, x : x + 24] for y, x in _CORNERS], axis=1)
        windows = (windows - windows.mean(axis=(2, 3), keepdims=True)) * _WINDOW
        turned = np.swapaxes((windows.reshape(-1, 24) @ _BASIS).reshape(n, len(_CORNERS), 24, -1), 2, 3)
        both = (turned.reshape(-1, 24) @ _BASIS).reshape(n, len(_CORNERS), 2, _WAVES, 2, _WAVES)
        cos_cos, cos_sin, sin_cos, sin_sin = (
            both[:, :, 0, :, 0],
            both[:, :, 0, :, 1],
            both[:, :, 1, :, 0],
            both[:, :, 1, :, 1],
        )
        total[:, 0] += np.sqrt((cos_cos - sin_sin) ** 2 + (cos_sin + sin_cos) ** 2).mean(axis=1)
        total[:, 1] += np.sqrt((cos_cos + sin_sin) ** 2 + (cos_sin - sin_cos) ** 2).mean(axis=1)
    share = np.sqrt(total / (total.mean(axis=(1, 2, 3), keepdims=True) + np.float32(0.05)))
    return np.asarray(share.reshape(n, -1), dtype=np.float32)


_WAVES: Final = 9
_CORNERS: Final = ((12, 12), (8, 8), (8, 16), (16, 8), (16, 16))
_WINDOW: Final = np.outer(np.hanning(24), np.hanning(24)).astype(np.float32)
_TURNS: Final = 2 * np.pi * np.outer(np.arange(24), np.arange(_WAVES)) / 24
_BASIS: Final = np.concatenate([np.cos(_TURNS), np.sin(_TURNS)], axis=1).astype(np.float32)

# Mean and spread of each block's numbers over the regions of a drawn shop, and the block's weight in the mix:
# constants, so that a feature never depends on what else was featurised.
_BLOCKS: Final = {
    "layout": (0.25, 0.16, 0.6),
    "colours": (0.09, 0.115, 1.0),
    "colour cells": (0.07, 0.12, 0.8),
    "edges": (0.14, 0.17, 1.0),
    "spectrum": (0.80, 0.35, 1.0),
    "texture": (0.28, 0.20, 0.8),
    "grain": (0.60, 0.30, 0.9),
}
_GAIN: Final = 1.7
_OFFSET: Final = 0.35


def _standardised(name: str, block: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    mean, spread, weight = _BLOCKS[name]
    return np.asarray(
        (block - np.float32(mean)) * np.float32(weight / spread / np.sqrt(block.shape[1])), dtype=np.float32
    )


@functools.lru_cache(maxsize=2)
def _mixing(
    described: int,
) -> tuple[Int64[np.ndarray, "groups inputs"], Float32[np.ndarray, "groups inputs outputs"]]:
    """Which numbers each group of features mixes, and the random matrices: the same in every run."""
    rng = np.random.default_rng(_SEED)
    inputs = np.stack([np.sort(rng.permutation(described)[: described // 4]) for _ in range(_GROUPS)])
    return inputs, rng.standard_normal((_GROUPS, described // 4, FEATURES // _GROUPS), dtype=np.float32)


def _mixed(described: Float32[np.ndarray, "n described"]) -> Float32[np.ndarray, "n 2048"]:
    """Random projections, each of a quarter of the description; of about unit spread for every region."""
    inputs, weights = _mixing(described.shape[1])
    taken = described[:, inputs]
    taken /= np.sqrt((taken**2).sum(axis=2, keepdims=True)) + np.float32(1e-6)
    mixed = np.matmul(taken.swapaxes(0, 1), weights)
    return np.asarray(mixed.swapaxes(0, 1).reshape(len(described), FEATURES))
