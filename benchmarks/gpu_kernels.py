"""Do the variable-length kernels of this card attend as the groups do, forward and backward, and how much faster?

Against the groups in float32, from the same rounded values: both ways of asking (all tokens, the first of each
sequence), bfloat16 and float16, every kernel that is there. With dropout, what forward dropped backward must drop too.
"""

from __future__ import annotations

import functools
import importlib.util
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from stand_ins import missing, stand_in

if names := missing():
    stand_in(names)

from torch import Tensor
from torch.nn import functional

from lengths import photo_lengths
from record import Figures
from rivals import timed
from shopwindow.model import kernels
from shopwindow.model.packing import Layout, _by_group

TOLERANCES: Final = {torch.bfloat16: 0.02, torch.float16: 0.003}
"""Of a relative error: some five roundings of the type (2^-9 and 2^-12)."""
DROPPED: Final = 0.1
DROPOUT_PHOTOS: Final = 512
DROPOUT_TOLERANCE: Final = 0.01
"""Of sums over some 20,000 drawn masks, whose own chance is a tenth of it."""
HEADS: Final = 12
WIDTH: Final = 64


@dataclass(frozen=True)
class Case:
    """Queries, keys, values and the gradient of what attention makes of them, in one type, on one device."""

    layout: Layout
    query: Tensor
    key: Tensor
    value: Tensor
    gradient: Tensor

    @property
    def first_only(self) -> bool:
        """Whether only the first token of each sequence asks."""
        return len(self.query) != len(self.key)

    @classmethod
    def drawn(cls, sequences: int, *, first_only: bool, dtype: torch.dtype, device: torch.device) -> Case:
        """Lengths like the photos' of the competition, normal values."""
        layout = Layout.of(torch.from_numpy(photo_lengths(sequences, np.random.default_rng(0))), device)
        tokens = len(layout.order)
        asking = sequences if first_only else tokens
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.randn(n, HEADS, WIDTH, generator=generator) for n in (asking, tokens, tokens, asking)]
        return cls(layout, *(one.to(device, dtype) for one in drawn))

    def to(self, dtype: torch.dtype) -> Case:
        """The same values in another type."""
        return Case(
            self.layout, *(one.to(dtype) for one in (self.query, self.key, self.value, self.gradient))
        )


def measured(device: torch.device, *, pairs: int, rounds: int, times: int) -> tuple[Figures, list[str]]:
    """Errors and speeds of every kernel, and what was wrong; one kernel that fails does not cost the others."""
    figures: Figures = {}
    wrong: list[str] = []

    def attempt(called: str, work: Callable[[], dict[str, float]], most: float) -> None:
        try:
            errors = work()
        except Exception as error:
            wrong.append(f"{called}: {type(error).__name__}: {str(error)[:300]}")
            return
        figures.update({f"{called}: {part}": off for part, off in errors.items()})
        # Not >, so that what is no number is wrong too.
        wrong.extend(
            f"{called}: {part}: {off:.3g}, at most {most:.3g}"
            for part, off in errors.items()
            if not off <= most
        )

    for name, kernel in kernels_of(device).items():
        for dtype, most in TOLERANCES.items():
            for first_only, asked in ((False, "all tokens ask"), (True, "the first token asks")):
                called = f"{name}, {str(dtype).removeprefix('torch.')}, {asked}"
                case = Case.drawn(pairs, first_only=first_only, dtype=dtype, device=device)
                attempt(called, functools.partial(compared, kernel, case), most)
                if not any(one.startswith(called) for one in wrong):
                    figures |= speeds(called, kernel, case, rounds=rounds, times=times)
    for name, kernel in kernels_of(device, dropout=DROPPED).items():
        case = Case.drawn(DROPOUT_PHOTOS, first_only=False, dtype=torch.bfloat16, device=device)
        attempt(
            f"{name}, a tenth dropped", functools.partial(dropout_errors, kernel, case), DROPOUT_TOLERANCE
        )
    figures["errors beyond what is right, and failures"] = float(len(wrong))
    return figures, wrong


def kernels_of(device: torch.device, *, dropout: float = 0.0) -> dict[str, kernels.Kernel]:
    """Every kernel that could be taken there; on a CPU, where there is none, one written as a loop."""
    if device.type != "cuda":
        return {"a loop": functools.partial(looped, dropout=dropout)}
    found: dict[str, kernels.Kernel] = {}
    if dropout == 0 and importlib.util.find_spec("torch.nn.attention.varlen"):
        found["torch's varlen_attn"] = kernels.torchs_varlen
    found["torch's flash operator"] = functools.partial(kernels.torchs_flash, dropout=dropout)
    if importlib.util.find_spec("flash_attn"):
        found["flash-attn"] = functools.partial(kernels.flash_package, dropout=dropout)
    else:
        print("flash-attn is not installed here", file=sys.stderr)
    return found


def looped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    asked: Tensor,
    bounds: Tensor,
    most_asked: int,
    longest: int,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """What such a kernel computes, sequence by sequence."""
    if most_asked != int(asked.diff().max()) or longest != int(bounds.diff().max()):
        raise ValueError(f"longest of {most_asked} and {longest} told, not those of the bounds")
    out = []
    for (first, last), (start, end) in zip(pairwise(asked.tolist()), pairwise(bounds.tolist()), strict=True):
        scores = torch.einsum("ihd,jhd->hij", query[first:last], key[start:end]) / query.shape[-1] ** 0.5
        weights = functional.dropout(scores.softmax(-1), dropout)
        out.append(torch.einsum("hij,jhd->ihd", weights, value[start:end]))
    return torch.cat(out)


def by_kernel(kernel: kernels.Kernel, case: Case, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As `packing.attend` calls one."""
    layout = case.layout
    if not case.first_only:
        return kernel(query, key, value, layout.bounds, layout.bounds, layout.longest, layout.longest)
    each = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
    return kernel(query, key, value, each, layout.bounds, 1, layout.longest)


def by_groups(case: Case, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As `packing.attend` goes without one."""
    out: Tensor = _by_group(query, key, value, case.layout, 0.0)
    return out


def with_gradients(attend: Callable[[Tensor, Tensor, Tensor], Tensor], case: Case) -> dict[str, Tensor]:
    """What some attention gives, and the gradients of queries, keys and values; which are parts of one tensor, as they
    are where the towers make them in one product."""
    given = [one.detach().clone().requires_grad_() for one in (case.query, case.key, case.value)]
    alone = [given[0]] if case.first_only else []
    joined = given[len(alone) :]
    out = attend(*alone, *torch.cat(joined, dim=1).chunk(len(joined), dim=1))
    gradients = torch.autograd.grad(out, given, case.gradient)
    parts = ("output", "queries' gradient", "keys' gradient", "values' gradient")
    return dict(zip(parts, (out.detach(), *gradients), strict=True))


def compared(kernel: kernels.Kernel, case: Case) -> dict[str, float]:
    """The length of the difference to the groups in float32, over the length of what is wanted."""
    exact = case.to(torch.float32)
    wanted = with_gradients(functools.partial(by_groups, exact), exact)
    found = with_gradients(functools.partial(by_kernel, kernel, case), case)
    return {
        f"relative error of the {part}": float((found[part].float() - value).norm() / value.norm())
        for part, value in wanted.items()
    }


def dropout_errors(kernel: kernels.Kernel, case: Case) -> dict[str, float]:
    """How far the mean over many kept and dropped weights is from all of them, and backward from forward.

    The output is linear in the values: with the output itself as its gradient, the values times their gradient sum up
    to the output's square, if and only if backward drops what forward dropped.
    """
    ones = torch.ones_like(case.value)
    with torch.no_grad():
        mean = float(by_kernel(kernel, case, case.query, case.key, ones).float().mean())
    value = case.value.detach().clone().requires_grad_()
    out = by_kernel(kernel, case, case.query, case.key, value)
    (gradient,) = torch.autograd.grad(out, value, out.detach())
    square = float(out.detach().float().square().sum())
    linear = float((gradient.float() * value.detach().float()).sum())
    return {
        "mean of ones, off by": abs(mean - 1),
        "backward against forward, off by": abs(linear / square - 1),
    }


def speeds(called: str, kernel: kernels.Kernel, case: Case, *, rounds: int, times: int) -> Figures:
    """Milliseconds forward and backward of the kernel and of the groups in the same type, in turns."""

    def milliseconds(attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
        def work() -> None:
            for _ in range(times):
                with_gradients(attend, case)

        return 1000 * timed(work, device=case.query.device.type) / times

    ways = (functools.partial(by_kernel, kernel, case), functools.partial(by_groups, case))
    for way in ways:
        milliseconds(way)
    found = [[milliseconds(way) for way in ways] for _ in range(rounds)]
    return {
        f"{called}: milliseconds, forward and backward": [ours for ours, _ in found],
        f"{called}: the groups, median milliseconds": statistics.median(groups for _, groups in found),
        f"{called}: times faster than the groups": [groups / ours for ours, groups in found],
    }
