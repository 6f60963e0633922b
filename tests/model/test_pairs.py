"""Chunks, blocks of scores, equal pairs encoded once: each gives what the plain way gives, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from shopwindow.data.regions import Regions
from shopwindow.model.blockwise import blockwise_loss
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.negatives import Cells, KnownPairs, choose_cells, count_false_negatives
from shopwindow.model.pairs import Pairs, encode_pairs, part_seed
from shopwindow.model.recipe import LossName, Masking
from shopwindow.model.steps import batch_loss
from shopwindow.model.towers import EncoderSize
from tests.model.parts import two_towers

FEATURES, PAIRS = 12, 14
MASKINGS = get_args(Masking)


def towers(dropout: float, *, normalise: bool = True) -> PartsEncoder:
    torch.manual_seed(4)
    size = EncoderSize(hidden=16, layers=2, heads=2, inner=24, dropout=dropout)
    model = two_towers(size, feature_size=FEATURES, normalise=normalise, scale=5.0, bias=-1.0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def some_pairs(*, equal: bool = True) -> Pairs:
    """Pairs among which some texts and some products are equal, or none."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.arange(PAIRS) % (5 if equal else PAIRS)
    products = torch.arange(PAIRS) // 2 if equal else torch.arange(PAIRS)
    queries = [torch.randint(1, 40, (1 + n % 4,), generator=generator) for n in range(PAIRS)]
    photos = [torch.randn(1 + n % 3, FEATURES, generator=generator) for n in range(PAIRS)]
    tokens, regions = [queries[n] for n in texts.tolist()], [photos[n] for n in products.tolist()]
    return Pairs(
        torch.cat(tokens),
        torch.tensor([len(one) for one in tokens]),
        Regions(torch.cat(regions), torch.tensor([len(one) for one in regions])),
        texts,
        products,
    )


def gradients(model: PartsEncoder, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.autograd.backward(loss)
    return {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}


def assert_alike(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(got[name] / scale, gradient / scale, atol=1e-5, rtol=0, msg=name)


def whole_matrix(pairs: Pairs, masking: Masking) -> tuple[KnownPairs, Cells]:
    known = KnownPairs(pairs.texts.numpy()[:6], pairs.products.numpy()[6:12])
    return known, choose_cells(pairs.texts, pairs.products, masking=masking, known=known)


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("loss", get_args(LossName))
def test_chunks_with_dropout_give_the_gradients_of_one_pass(loss: LossName, masking: Masking) -> None:
    model, pairs = towers(0.3), some_pairs()
    known, cells = whole_matrix(pairs, masking)
    parts = []
    for number, start in enumerate(range(0, PAIRS, 4)):
        part = pairs.part(start, min(start + 4, PAIRS))
        torch.manual_seed(part_seed(9, number))
        parts.append((model.encode_text(part.tokens, part.lengths), model.encode_photo(part.photos)))
    text, photo = (torch.cat(vectors) for vectors in zip(*parts, strict=True))
    wanted_loss = batch_loss(model, loss, text, photo, cells)
    wanted = gradients(model, wanted_loss)
    text, photo = encode_pairs(model, pairs, seed=9, chunk=4)

    def cells_of(rows: slice, columns: slice) -> Cells:
        return choose_cells(
            pairs.texts, pairs.products, masking=masking, known=known, rows=rows, columns=columns
        )

    got_loss = blockwise_loss(model, loss, text, photo, cells_of, scores_at_once=26)
    torch.testing.assert_close(got_loss, wanted_loss, atol=1e-6, rtol=1e-6)
    assert_alike(gradients(model, got_loss), wanted)


def test_another_seed_drops_others() -> None:
    model, pairs = towers(0.3), some_pairs()
    one, again, other = (encode_pairs(model, pairs, seed=seed, chunk=4)[0] for seed in (9, 9, 10))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


def test_no_chunk_keeps_another_ones_activations() -> None:
    model, pairs = towers(0.0), some_pairs(equal=False)
    kept = [0, 0]

    def counted(place: int) -> int:
        with torch.autograd.graph.saved_tensors_hooks(count_into(place), lambda tensor: tensor):
            encode_pairs(model, pairs, seed=0, chunk=4 * place)
        return kept[place]

    def count_into(place: int) -> Callable[[Tensor], Tensor]:
        def pack(tensor: Tensor) -> Tensor:
            kept[place] += tensor.numel()
            return tensor

        return pack

    assert counted(1) < counted(0) / 20


@pytest.mark.parametrize("masking", MASKINGS)
def test_cells_of_a_part_are_that_part_of_all_cells(masking: Masking) -> None:
    pairs = some_pairs()
    known, whole = whole_matrix(pairs, masking)
    rows, columns = slice(3, 9), slice(5, None)
    part = choose_cells(pairs.texts, pairs.products, masking=masking, known=known, rows=rows, columns=columns)
    assert torch.equal(part.right, whole.right[rows, columns])
    assert torch.equal(part.wrong, whole.wrong[rows, columns])


def test_false_negatives_are_those_of_the_matrix() -> None:
    pairs = some_pairs()
    known, cells = whole_matrix(pairs, "known")
    left_out = PAIRS * (PAIRS - 1) - int(cells.wrong.sum())
    assert count_false_negatives(pairs.texts, pairs.products, known) == left_out > 0


@pytest.mark.parametrize("chunk", [0, 5])
def test_equal_pairs_encoded_once_give_equal_vectors_and_gradients(chunk: int) -> None:
    model, pairs = towers(0.0), some_pairs()
    weights = torch.randn(2, PAIRS, 16, generator=torch.Generator().manual_seed(1))
    calls: list[int] = []
    model.text_towers[0].register_forward_hook(lambda *seen: calls.append(len(seen[-1])))
    plain = (model.encode_text(pairs.tokens, pairs.lengths), model.encode_photo(pairs.photos))
    wanted = gradients(model, torch.stack([(a * b).sum() for a, b in zip(plain, weights, strict=True)]).sum())
    once = encode_pairs(model, pairs, seed=0, chunk=chunk)
    for vectors, others in zip(once, plain, strict=True):
        torch.testing.assert_close(vectors, others, atol=1e-6, rtol=0)
    assert_alike(
        gradients(model, torch.stack([(a * b).sum() for a, b in zip(once, weights, strict=True)]).sum()),
        wanted,
    )
    assert calls[:2] == [PAIRS, 5]  # five texts are distinct, in a chunk and in all


def test_with_dropout_equal_pairs_have_masks_of_their_own() -> None:
    model, pairs = towers(0.3), some_pairs()
    torch.manual_seed(3)
    plain = model.encode_text(pairs.tokens, pairs.lengths), model.encode_photo(pairs.photos)
    own = encode_pairs(model, pairs, seed=3)
    assert all(torch.equal(vectors, wanted) for vectors, wanted in zip(own, plain, strict=True))
    assert not torch.allclose(own[0][0], own[0][5])


def test_parts_of_a_step_drop_other_values() -> None:
    draws = {}
    for part in range(8):
        torch.manual_seed(part_seed(9, part))
        draws[tuple(torch.rand(3).tolist())] = part
    assert len(draws) == 8
    assert part_seed(9, 0) == 9
