"""Losses, gradients, hard negatives and training of the cross-encoders are those of the original code.

Tolerances: 1e-5 absolute, for gradients too; 1e-4 relative for curves of training, where differences add up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from shopwindow.model.cross import CrossPairs, Kind
from shopwindow.model.cross_checkpoint import load_original, own_name
from shopwindow.model.cross_heads import CrossModel
from shopwindow.model.cross_losses import (
    alignment_loss,
    choice_loss,
    class_divergence,
    class_loss,
    feature_loss,
    hardest,
    margin_loss,
    transport,
)
from shopwindow.model.packing import Layout
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import Run
from tests.model.cross_golden import Arrays, arrays, golden, oscar_pairs, uniter_pairs

HARD = 3


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, wanted.to(got.dtype), atol=tolerance, rtol=0)


def original(kind: Kind, weights: str) -> CrossModel:
    return load_original(golden(kind, weights), kind, attention_heads=4, dropout=0.0)


def check_gradients(model: CrossModel, kind: Kind, wanted: str, task: str) -> None:
    """The gradients that the model's parameters hold, whole where a file has them, and their norms."""
    whole = load_file(golden(kind, wanted)) if wanted else {}
    norms = json.loads(golden(kind, "grad_norms.json").read_text())[task]
    parameters, checked = dict(model.named_parameters()), set()
    for name, norm in norms.items():
        own = own_name(name, kind)
        if own not in parameters:
            continue
        grad = parameters[own].grad
        checked.add(own)
        if norm is None:
            assert grad is None or not grad.any(), name
            continue
        assert grad is not None, name
        assert float(grad.norm()) == pytest.approx(norm, rel=1e-4, abs=1e-5), name
        if name in whole:
            theirs = whole[name][1] if own == "body.regions.mask" else whole[name]
            close(grad, theirs, 2e-5)
    assert checked == set(parameters)


def test_margin_loss_counted_by_hand() -> None:
    scores = torch.logit(torch.tensor([[0.6, 0.5, 0.3], [0.5, 0.9, 0.5]], dtype=torch.float64))
    wanted = torch.tensor([[0.1, 0.0], [0.6, 0.2]], dtype=torch.float64)
    close(margin_loss(scores), wanted, 1e-12)


def test_the_hardest_are_the_highest_and_the_earlier_of_equals() -> None:
    assert hardest(torch.tensor([0.0, 1.0, 3.0, 1.0, 2.0]), 3).tolist() == [0, 2, 4, 1]
    assert hardest(torch.tensor([9.0, 1.0]), 5).tolist() == [0, 1]


def test_ranking_loss_and_its_gradients_are_uniters() -> None:
    model = original("uniter", "weights_retrieval.safetensors")
    pairs, _, _ = uniter_pairs(arrays("uniter", "forward_retrieval.npz", "batch."))
    losses = margin_loss(model.score(pairs).view(-1, 3))
    close(losses, arrays("uniter", "forward_retrieval.npz")["rank_loss"])
    torch.autograd.backward(losses.mean())
    check_gradients(model, "uniter", "grads_retrieval.safetensors", "retrieval")


def masked_losses(model: CrossModel, task: str, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The losses of a task's hidden words or regions; its predictions are checked too."""
    batch, wanted = (
        arrays("uniter", f"pretrain_{task}.npz", "batch."),
        arrays("uniter", f"pretrain_{task}.npz"),
    )
    pairs, words, _ = uniter_pairs(batch)
    out = model.body(pairs)
    if task == "mlm":
        targets = batch["txt_labels"][words]
        predicted, targets = model.word_scores(out.words[targets >= 0]), targets[targets >= 0]
    else:
        assert pairs.masked is not None
        hidden = out.regions[pairs.masked]
        predicted = model.feature_values(hidden) if task == "mrfr" else model.heads["classes"](hidden)
        targets = batch["feat_targets" if task == "mrfr" else "label_targets"]
    losses = loss(predicted, targets)
    close(predicted, wanted["pred"])
    torch.testing.assert_close(losses, wanted["loss"], atol=1e-5, rtol=1e-5)  # squares reach 100
    return losses.mean()


TASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mlm": choice_loss,
    "mrfr": feature_loss,
    "mrc": class_loss,
    "mrckl": class_divergence,
}


@pytest.mark.parametrize("task", TASKS)
def test_hidden_words_and_regions_cost_what_they_cost_uniter(task: str) -> None:
    model = original("uniter", "weights_pretrain.safetensors")
    torch.autograd.backward(masked_losses(model, task, TASKS[task]))
    unused = {name for name, own in model.named_parameters() if own.grad is None}
    assert "heads.rank.weight" in unused
    drop_unused(model)
    check_gradients(model, "uniter", "", task)


def drop_unused(model: CrossModel) -> None:
    """The rank head is ours alone: the file of a pre-training has none."""
    del model.heads["rank"]


def matching_losses(model: CrossModel) -> Tensor:
    """UNITER's matching with the alignment of words and regions; all its numbers are checked."""
    batch, wanted = arrays("uniter", "pretrain_itm.npz", "batch."), arrays("uniter", "pretrain_itm.npz")
    pairs, words, kept = uniter_pairs(batch)
    out = model.body(pairs)
    close(out.words, wanted["ot_txt_emb"][words])
    close(out.regions, wanted["ot_img_emb"][kept])
    logits = model.heads["match"](out.pooled)
    losses = choice_loss(logits, batch["targets"])
    close(logits, wanted["scores"])
    close(losses, wanted["loss"])
    carried = transport(out.words, out.regions, pairs.lengths, pairs.regions.counts)
    cells = words[:, :, None] & kept[:, None, :]
    close(carried.distances, wanted["ot_dist"])
    close(carried.costs, wanted["ot_cost"][cells])
    close(carried.plan, wanted["ot_T"].transpose(1, 2)[cells])
    aligned = alignment_loss(carried.distances, batch["targets"])
    close(aligned, wanted["ot_loss"])
    total = losses.mean() + 0.1 * aligned
    close(total, wanted["total"])
    return total


def test_matching_and_alignment_are_uniters() -> None:
    model = original("uniter", "weights_pretrain.safetensors")
    torch.autograd.backward(matching_losses(model))
    drop_unused(model)
    check_gradients(model, "uniter", "", "itm")


def test_the_sum_of_all_tasks_has_uniters_gradients() -> None:
    model = original("uniter", "weights_pretrain.safetensors")
    total = sum((masked_losses(model, task, loss) for task, loss in TASKS.items()), matching_losses(model))
    torch.autograd.backward(total)
    drop_unused(model)
    check_gradients(model, "uniter", "grads_pretrain.safetensors", "pretrain_total")


SETTINGS = [(0.5, 50), (0.5, 1), (0.5, 5), (0.1, 50), (1.0, 20)]


@pytest.mark.parametrize(("proximal", "rounds"), SETTINGS)
def test_transport_is_uniters(proximal: float, rounds: int) -> None:
    given, wanted = arrays("uniter", "ot.npz"), arrays("uniter", "ot.npz", f"b{proximal}_it{rounds}_k1.")
    left, right = given["x_pad"] == 0, given["y_pad"] == 0
    x = given["x"].clone().requires_grad_()
    carried = transport(
        x[left], given["y"][right], left.sum(1), right.sum(1), proximal=proximal, rounds=rounds
    )
    cells = left[:, :, None] & right[:, None, :]
    close(carried.distances, wanted["dist"])
    close(carried.costs, wanted["cost"][cells])
    close(carried.plan, wanted["T"].transpose(1, 2)[cells])
    torch.autograd.backward(carried.distances.sum())
    assert x.grad is not None
    close(x.grad, wanted["grad_x"])


def test_a_plan_carries_all_and_costs_least() -> None:
    """Against scipy's linear program; the proximal steps come within 1e-3 of it after many rounds."""
    from scipy.optimize import linprog

    generator = torch.Generator().manual_seed(4)
    words, regions = (torch.randn(rows, 6, generator=generator).double() for rows in (5 + 2, 3 + 4))
    lengths, counts = torch.tensor([5, 2]), torch.tensor([3, 4])
    carried = transport(words, regions, lengths, counts, rounds=3000)
    costs = torch.split(carried.costs, (lengths * counts).tolist())
    for number, (rows, columns) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        sums = np.zeros((rows + columns, rows, columns))
        for row in range(rows):
            sums[row, row] = 1
        for column in range(columns):
            sums[rows + column, :, column] = 1
        masses = [1 / rows] * rows + [1 / columns] * columns
        best = linprog(costs[number].numpy(), A_eq=sums.reshape(len(masses), -1), b_eq=masses)
        assert float(carried.distances[number]) == pytest.approx(best.fun, abs=1e-3)
    first = carried.plan[:15].view(5, 3)
    close(first.sum(1), torch.full((5,), 1 / 5), 1e-6)
    close(first.sum(0), torch.full((3,), 1 / 3), 1e-3)


def test_matching_of_two_classes_is_oscars() -> None:
    for norm in ("ln1", "ln0"):
        model = original("oscar", f"weights_retrieval_{norm}.safetensors")
        batch, wanted = (arrays("oscar", f"forward_CLR_{norm}.npz", prefix) for prefix in ("batch.", ""))
        pairs, _, _ = oscar_pairs(batch, features=58)
        loss = choice_loss(model.heads["match"](model.body.pooled(pairs)), batch["labels"]).mean()
        close(loss, wanted["loss"])
        torch.autograd.backward(loss)
        whole = "grads_retrieval_ln1.safetensors" if norm == "ln1" else ""
        check_gradients(model, "oscar", whole, f"retrieval_{norm}")


@pytest.mark.parametrize("classes", [3, 2])
def test_hidden_words_and_wrong_pairs_cost_what_they_cost_oscar(classes: int) -> None:
    model = original("oscar", "weights_pretrain.safetensors")
    batch = arrays("oscar", "pretrain.npz", "batch.")
    wanted = arrays("oscar", "pretrain.npz" if classes == 3 else "pretrain_2class.npz")
    pairs, words, kept = oscar_pairs(batch, features=58)
    out = model.body(pairs)
    targets = batch["masked_lm_labels"][:, : words.shape[1]][words]
    hidden = targets >= 0
    of_words = choice_loss(model.word_scores(out.words[hidden]), targets[hidden]).mean()
    kinds = batch["next_sentence_label"].clamp(max=classes - 1)
    logits = model.heads["contrast"](out.pooled)[:, :classes]
    of_pairs = choice_loss(logits, kinds).mean()
    close(logits, wanted["seq_relationship"])
    close(of_words, wanted["mlm_loss"])
    torch.testing.assert_close(of_words + of_pairs, wanted["total"], atol=1e-5, rtol=1e-6)
    if classes == 3:
        close(of_pairs, wanted["contrast_loss"])
        predictions = wanted["prediction_scores"]
        close(model.word_scores(out.words), predictions[:, : words.shape[1]][words], 2e-5)
        close(model.word_scores(out.regions), predictions[:, words.shape[1] :][kept], 2e-5)
        torch.autograd.backward(of_words + of_pairs)
        check_gradients(model, "oscar", "grads_pretrain.safetensors", "pretrain")


def gathered_scores(model: CrossModel, batch: Arrays) -> Tensor:
    """The scores of a batch whose slots are gathered as its index says, be it right or wrong."""
    rows, slots = batch["attn_masks"].shape
    ids, features, geometry = (
        batch[name].expand(rows, *batch[name].shape[1:]) for name in ("input_ids", "img_feat", "img_pos_feat")
    )
    every = torch.ones(rows, ids.shape[1] + features.shape[1], dtype=torch.int64)
    whole, _, _ = uniter_pairs(
        {
            "input_ids": torch.ones_like(ids),
            "attn_masks": every,
            "img_feat": features,
            "img_pos_feat": geometry,
        }
    )
    whole = replace(whole, tokens=ids.flatten())
    words, regions = model.body.embed_words(whole), model.body.embed_regions(whole)
    table = torch.cat([words.view(rows, ids.shape[1], -1), regions.view(rows, features.shape[1], -1)], dim=1)
    index = batch["gather_index"]
    hidden = table.gather(1, index[:, :, None].expand(-1, -1, table.shape[2]))
    lengths = batch["attn_masks"].sum(1)
    layout = Layout.of(lengths, hidden.device)
    packed = hidden[torch.arange(slots) < lengths[:, None]][layout.order]
    scores: Tensor = model.heads["rank"](model.body.pooler(model.body.encoder.first(packed, layout)))
    return scores[:, 0]


def mined(scores: Callable[[CrossPairs], Tensor], pairs: CrossPairs) -> tuple[Tensor, Tensor]:
    """Scores of all candidates, and the losses of the right pair against the hardest."""
    with torch.no_grad():
        every = scores(pairs)
    chosen = pairs.take(hardest(every, HARD))
    return every, margin_loss(scores(chosen)[None])


@pytest.mark.parametrize("direction", ["t", "i_fixed"])
def test_hard_negatives_are_uniters(direction: str) -> None:
    model = original("uniter", "weights_retrieval.safetensors")
    batch = arrays("uniter", "hardneg.npz", f"{direction}.")
    wanted = arrays("uniter", "hardneg.npz", f"{direction}_out.")
    pairs, _, _ = uniter_pairs(batch)
    scores, losses = mined(model.score, pairs)
    close(scores, wanted["scores"][:, 0])
    close(losses.sort().values, wanted["loss"].sort().values)  # the original's hard negatives have no order
    hard, _, _ = uniter_pairs({name.removeprefix("hard."): own for name, own in wanted.items()})
    ours = pairs.take(hardest(scores, HARD))
    assert sorted(counts_and_sums(ours)) == sorted(counts_and_sums(hard))
    torch.autograd.backward(losses.mean())
    check_gradients(model, "uniter", "", f"hardneg_{direction}")


def counts_and_sums(pairs: CrossPairs) -> list[tuple[int, int, float]]:
    """What tells pairs apart: their number of regions, the sum of their tokens, a feature."""
    tokens = [int(row.sum()) for row in torch.split(pairs.tokens, pairs.lengths.tolist())]
    photos = torch.split(pairs.regions.features, pairs.regions.counts.tolist())
    return [
        (len(photo), total, round(float(photo[0, 0]), 5)) for photo, total in zip(photos, tokens, strict=True)
    ]


@torch.no_grad()
def test_the_originals_wrong_gather_for_hard_negatives_of_images_is_not_ours() -> None:
    """It takes the last caption's length for the padded one, so that regions are lost and padding is read."""
    model = original("uniter", "weights_retrieval.safetensors")
    right, wrong = (arrays("uniter", "hardneg.npz", f"{name}.") for name in ("i_fixed", "i"))
    pairs, _, _ = uniter_pairs(wrong)
    ours = model.score(pairs)
    close(gathered_scores(model, right), ours)
    theirs = gathered_scores(model, wrong)
    close(theirs, arrays("uniter", "hardneg.npz")["i_out.scores"][:, 0])
    assert (theirs - ours).abs().max() > 0.01


def test_the_rank_head_learns_apart_from_the_match_head() -> None:
    """In the original it is a view of the match head's second row, so the two stay equal on a CPU."""
    model = original("uniter", "weights_pretrain.safetensors")
    rank: Any = model.heads["rank"]
    match: Any = model.heads["match"]
    assert torch.equal(rank.weight, match.weight[1:])
    before = match.weight.clone()
    pairs, _, _ = uniter_pairs(arrays("uniter", "train_batches.npz", "00."))
    torch.autograd.backward(margin_loss(model.score(pairs).view(-1, 3)).mean())
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert torch.equal(match.weight, before)
    assert not torch.equal(rank.weight, match.weight[1:])
    theirs = load_file(golden("uniter", "weights_after_train.safetensors"))
    assert torch.equal(theirs["rank_output.weight"], theirs["itm_output.weight"][1:])


def test_recall_of_images_counts_images_alone() -> None:
    """The original counts numbers of rows as ranks too: up to one, five, ten hits too many."""
    golden_file = json.loads(golden("uniter", "itm_eval.json").read_text())
    rows = arrays("uniter", "itm_eval.npz")
    queries, products = rows["score_half"].shape
    answers = Answers.from_arrays(np.arange(queries), rows["gt_col"].numpy())
    for name, wanted in (
        ("score_half", golden_file["image_retrieval_without_row_index_bug"]),
        ("ideal_score", {"img_r1": 1.0, "img_r5": 1.0, "img_r10": 1.0}),
    ):
        run = Run.from_arrays(
            np.repeat(np.arange(queries), products),
            np.tile(np.arange(products), queries),
            rows[name].double().numpy().ravel(),
            name=name,
        )
        for k in (1, 5, 10):
            measure = Measure("hit", k)
            assert evaluate(run, answers, [measure]).mean(measure) == pytest.approx(wanted[f"img_r{k}"])
    assert golden_file["original_on_perfect_scores"]["img_r1"] > 1


class OriginalAdamW:
    """The originals' optimiser: epsilon before the correction of bias, decay after the step. `decayed`: their names."""

    def __init__(
        self,
        model: CrossModel,
        kind: Kind,
        decayed: Iterable[str],
        *,
        betas: tuple[float, float],
        epsilon: float,
    ) -> None:
        self.decayed = {own_name(name, kind) for name in decayed}
        self.parameters = dict(model.named_parameters())
        self.moments = {name: torch.zeros(2, *own.shape) for name, own in self.parameters.items()}
        self.betas, self.epsilon, self.steps = betas, epsilon, 0

    @torch.no_grad()
    def step(self, rate: float, decay: float, clip: float) -> float:
        """Clips, steps, and forgets the gradients; gives their norm before."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), clip)
        self.steps += 1
        corrected = [1 - beta**self.steps for beta in self.betas]
        for name, own in self.parameters.items():
            if own.grad is None:
                continue
            for moment, beta, value in zip(
                self.moments[name], self.betas, (own.grad, own.grad**2), strict=True
            ):
                moment.mul_(beta).add_(value, alpha=1 - beta)
            first, second = self.moments[name]
            scale = rate * corrected[1] ** 0.5 / corrected[0]
            own.sub_(scale * first / (second.sqrt() + self.epsilon))
            if name in self.decayed:
                own.sub_(rate * decay * own)
            own.grad = None
        return float(norm)


def uniter_rate(step: int) -> float:
    """Linear from 0 in 4 of 12 steps, then linear to 0; steps count from 1."""
    return 0.002 * (step / 4 if step < 4 else (12 - step) / 8)


def uniter_optimiser(model: CrossModel) -> OriginalAdamW:
    said = json.loads(golden("uniter", "train_curve.json").read_text())
    return OriginalAdamW(model, "uniter", said["decay_group"], betas=(0.9, 0.98), epsilon=1e-6)


def check_weights(model: CrossModel, kind: Kind, *, besides: tuple[str, ...] = ()) -> None:
    """The weights after a training. Biases of keys have no gradient but rounding, which Adam makes steps of."""
    for name, theirs in load_file(golden(kind, "weights_after_train.safetensors")).items():
        own = own_name(name, kind)
        assert own is not None
        if ".key.bias" not in name and not own.startswith(besides):
            theirs = theirs[1] if own == "body.regions.mask" else theirs
            close(model.state_dict()[own], theirs, 1e-4)


def test_training_follows_uniters_curve() -> None:
    model = original("uniter", "weights_pretrain.safetensors").train()
    curve = json.loads(golden("uniter", "train_curve.json").read_text())["curve"]
    optimiser = uniter_optimiser(model)
    for number, wanted in enumerate(curve):
        losses = []
        for half in range(2):
            pairs, _, _ = uniter_pairs(arrays("uniter", "train_batches.npz", f"{2 * number + half:02}."))
            loss = margin_loss(model.score(pairs).view(-1, 3)).mean()
            torch.autograd.backward(loss)
            losses.append(float(loss.detach()))
        assert losses == pytest.approx(wanted["losses"], rel=1e-4)
        assert wanted["lr"] == pytest.approx(uniter_rate(number + 1))
        norm = optimiser.step(wanted["lr"], 0.01, 2.0)
        assert norm == pytest.approx(wanted["grad_norm"], rel=1e-4)
    check_weights(model, "uniter", besides=("heads.match",))  # theirs is tied to the rank head


def test_training_with_hard_negatives_follows_uniters_curve() -> None:
    """With the original's wrong gather, which its numbers were made with."""
    model = original("uniter", "weights_pretrain.safetensors").train()
    said = json.loads(golden("uniter", "train_curve.json").read_text())["hard_negative"]
    batches = arrays("uniter", "train_batches_hn.npz")
    names = sorted({name.partition(".")[0] for name in batches})
    optimiser = uniter_optimiser(model)
    size = 2 * said["train_batch_size"]
    for number, wanted in enumerate(said["curve"]):
        losses = []
        for name in names[size * number : size * (number + 1)]:
            batch = arrays("uniter", "train_batches_hn.npz", f"{name}.")
            with torch.no_grad():
                chosen = hardest(gathered_scores(model, batch), HARD)
            hard = {key: own[chosen] if len(own) > 1 else own for key, own in batch.items()}
            loss = margin_loss(gathered_scores(model, hard)[None]).mean() / said["train_batch_size"]
            torch.autograd.backward(loss)
            losses.append(float(loss.detach()))
        assert losses == pytest.approx(wanted["losses_i_t_alternating"], rel=1e-4)
        words = model.body.embeddings.word_embeddings.weight.grad
        assert words is not None
        words[0] = 0  # the original's padding, which its wrong gather reads, never learns
        norm = optimiser.step(wanted["lr"], 0.01, 2.0)
        assert norm == pytest.approx(wanted["grad_norm"], rel=1e-4)


def test_training_follows_oscars_curve() -> None:
    model = original("oscar", "weights_retrieval_ln1.safetensors").train()
    said = json.loads(golden("oscar", "train_curve.json").read_text())
    optimiser = OriginalAdamW(model, "oscar", said["decay_group"], betas=(0.9, 0.999), epsilon=1e-8)
    logits = arrays("oscar", "train_batches.npz")["logits"]
    for number, wanted in enumerate(said["curve"]):
        batch = arrays("oscar", "train_batches.npz", f"{number:02}.")
        pairs, _, _ = oscar_pairs(batch, features=58)
        found = model.heads["match"](model.body.pooled(pairs))
        close(found, logits[number], 2e-4)
        loss = choice_loss(found, batch["labels"]).mean()
        torch.autograd.backward(loss)
        assert float(loss.detach()) == pytest.approx(wanted["loss"], rel=1e-4)
        norm = optimiser.step(wanted["lr"], 0.05, 1.0)
        assert norm == pytest.approx(wanted["grad_norm"], rel=2e-4)
    check_weights(model, "oscar")
