"""The variable-length path of attention, forced on a CPU by a kernel written as a loop, against the path by groups."""

from __future__ import annotations

import inspect
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from shopwindow.data.batches import PairBatches
from shopwindow.model import packing
from shopwindow.model.packing import Layout, attend
from shopwindow.model.towers import EncoderSize, TextTower
from shopwindow.model.trainer import Loader
from tests.model.conftest import TinyShop

LENGTHS = [3, 1, 6, 3, 2, 9, 1]


def looped(
    query: Tensor, key: Tensor, value: Tensor, asked: Tensor, bounds: Tensor, most_asked: int, longest: int
) -> Tensor:
    """What such a kernel computes, sequence by sequence."""
    assert asked.dtype == bounds.dtype == torch.int32
    assert most_asked == int(asked.diff().max())
    assert longest == int(bounds.diff().max())
    out = []
    for (first, last), (start, end) in zip(pairwise(asked.tolist()), pairwise(bounds.tolist()), strict=True):
        weights = torch.einsum("ihd,jhd->hij", query[first:last], key[start:end]) / query.shape[-1] ** 0.5
        out.append(torch.einsum("hij,jhd->ihd", weights.softmax(-1), value[start:end]))
    return torch.cat(out)


@pytest.mark.parametrize("first_only", [False, True])
def test_a_variable_length_kernel_attends_as_the_groups_do(
    monkeypatch: pytest.MonkeyPatch, first_only: bool
) -> None:
    layout = Layout.of(torch.tensor(LENGTHS), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    asking = len(LENGTHS) if first_only else sum(LENGTHS)
    results = []
    given = [torch.randn(n, 2, 8, generator=generator) for n in (asking, sum(LENGTHS), sum(LENGTHS))]
    for kernel in (None, looped):
        monkeypatch.setattr(packing, "variable_kernel", lambda *_, kernel=kernel: kernel)
        q, k, v = (tensor.clone().requires_grad_() for tensor in given)
        out = attend(q, k, v, layout)
        torch.autograd.backward((out * torch.arange(8.0)).sum())
        results.append((out.detach(), q.grad, k.grad, v.grad))
    for one, other in zip(*results, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_tower_over_the_kernel_gives_its_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    tower = TextTower(EncoderSize(16, 3, 2, 24, 0.0), vocabulary=30, longest=12)
    tokens, lengths = torch.randint(0, 30, (sum(LENGTHS),)), torch.tensor(LENGTHS)
    wanted = tower(tokens, lengths)
    monkeypatch.setattr(packing, "variable_kernel", lambda *_: looped)
    torch.testing.assert_close(tower(tokens, lengths), wanted, atol=1e-6, rtol=0)


def test_torch_takes_what_the_kernels_give_it() -> None:
    names = list(inspect.signature(varlen_attn).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    schema = torch.ops.aten._flash_attention_forward.default._schema
    assert [argument.name for argument in schema.arguments[:10]] == [
        *("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k"),
        *("dropout_p", "is_causal", "return_debug_mask"),
    ]


def test_a_kernel_is_taken_on_a_gpu_in_half_precision_alone() -> None:
    def kernel(device: str, dtype: torch.dtype, width: int = 64, dropout: float = 0.0) -> Any:
        return packing.variable_kernel(torch.device(device), dtype, width, dropout)

    assert kernel("cuda", torch.bfloat16) is packing.torchs_varlen
    dropping = kernel("cuda", torch.float16, dropout=0.1)
    assert dropping.func is packing.torchs_flash
    assert dropping.keywords == {"dropout": 0.1}
    assert kernel("cpu", torch.bfloat16) is None
    assert kernel("cuda", torch.float32) is None
    assert kernel("cuda", torch.bfloat16, width=12) is None


COMPILED = """
import torch
from shopwindow.model.towers import EncoderSize, TextTower, compile_parts
results, lengths = [], torch.tensor([3, 1, 6, 3, 2, 9, 1])
for compiled in (False, True):
    torch.manual_seed(1)
    tower = TextTower(EncoderSize(16, 3, 2, 24, 0.0), vocabulary=30, longest=12)
    names = list(tower.state_dict())
    if compiled:
        compile_parts(tower, backend="aot_eager")
    out = tower(torch.randint(0, 30, (25,)), lengths)
    torch.autograd.backward((out * torch.arange(16.0)).sum())
    assert list(tower.state_dict()) == names
    results.append([out.detach(), *(own.grad for own in tower.parameters())])
for one, other in zip(*results, strict=True):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
"""


@pytest.mark.slow
def test_compiled_parts_give_the_vectors_and_gradients_of_the_others() -> None:
    """Traced whole and differentiated by torch's compiler, in a process of its own: the tests' shape checks cannot be
    traced. Code is not generated, which takes a C compiler."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, capture_output=True, timeout=300)


def test_batches_on_their_way_to_a_gpu_are_the_others(
    tiny_shop: TinyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[int] = []

    def pin_memory(own: Tensor) -> Tensor:
        pinned.append(len(own))
        return own.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    batches = PairBatches(tiny_shop.train, batch_size=30, epochs=2, seed=0)
    for one, other in zip(Loader(batches), Loader(batches, to_gpu=True), strict=True):
        assert np.array_equal(one.products, other.products)
        assert torch.equal(one.regions.features, other.regions.features)
    assert len(pinned) == len(batches)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dropout", [0.0, 1e-9])
def test_the_kernels_of_a_gpu_attend_as_the_groups_do(dropout: float) -> None:
    layout = Layout.of(torch.tensor(LENGTHS), torch.device("cuda"))
    q, k, v = (torch.randn(sum(LENGTHS), 2, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    torch.testing.assert_close(
        attend(q, k, v, layout, dropout=dropout).float(),
        attend(q.float(), k.float(), v.float(), layout),
        atol=0.03,
        rtol=0.03,
    )
