"""How does a cross-encoder learn: from right pairs first, then to rank them above what nearly fits?

The steps of both phases are counted through; batch, negatives, hidden words and dropout of a step follow from (seed,
step) alone, so a killed training ends with the same weights. Beside the bundle lie the last state and the weights last
validated (`state.py`). A step is computed some groups at a time: no group's loss asks for another's, so the gradients
add up to those of the whole batch. Knows no command line.

Legend of axes: groups = a right pair and its negatives, of one text or of one product; candidates = the pairs of one.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

import shopwindow
from shopwindow.data.batches import PairBatch, PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError, alone, check_replaceable, whole_directory
from shopwindow.model.bundle import Bundle
from shopwindow.model.cross_bundle import MARKER, CrossBundle
from shopwindow.model.cross_heads import CrossModel
from shopwindow.model.cross_initial import initial_cross, names_of_labels
from shopwindow.model.cross_inputs import join_pairs
from shopwindow.model.cross_losses import hardest
from shopwindow.model.cross_negatives import Negatives, draw
from shopwindow.model.cross_rank import rerank, unranked
from shopwindow.model.cross_recipe import CrossRecipe
from shopwindow.model.cross_tasks import PairsAtHand, Spelling, pretraining_loss, ranking_loss
from shopwindow.model.encoder import at_rest
from shopwindow.model.negatives import KnownPairs
from shopwindow.model.pairs import part_seed
from shopwindow.model.state import CurveRow, TrainingState, read_best, save_best, write_curves
from shopwindow.model.steps import TokenTable, known_pairs, learning_rate
from shopwindow.model.tokenizer_files import SPECIAL_TOKENS
from shopwindow.model.validation import OFFICIAL, Validation
from shopwindow.model.watch import Moment, Progress
from shopwindow.ranking.measures import evaluate

_STEP_SEEDS: Final = 1_000_003


def train_cross(
    dataset: Dataset,
    recipe: CrossRecipe,
    out: str | Path,
    *,
    validation: Validation,
    first_stage: Bundle | None = None,
    label_names: Mapping[int, str] | None = None,
    resume: bool = False,
    device: str = "auto",
    seconds_between_saves: float = 60.0,
    seconds_between_tells: float = 1.0,
    progress: Progress | None = None,
) -> CrossBundle:
    """Trains by a recipe, validates after each epoch of ranking, and writes the last weights as a bundle; gives that.

    The validation is only reported: a score that chose would be too good.
    `first_stage`: whose nearest products, and texts, are the negatives. What has to outlast a kill lies in
    `OUT.training`; a training of the same recipe and data found there goes on, another is dropped, or, with `resume`,
    refused.
    Raises: DataError when `out` may not be written, another process trains it, `resume` finds another training, or the
    pairs do not fill a batch.
    """
    out = Path(out)
    check_replaceable(out, marker=MARKER)
    folder = out.with_name(out.name + ".training")
    job = _Job(dataset, recipe, folder, validation, first_stage, names_of_labels(dataset, label_names or {}))
    with alone(folder):
        try:
            state = TrainingState.read(folder, job.identity)
        except DataError:
            if resume:
                raise
            state = None
            _drop(folder)
        training = _Training(job, state, _device(device), seconds_between_saves)
        training.progress, training.seconds_between_tells = progress, seconds_between_tells
        training.run()
        bundle = training.best()
        with whole_directory(out, marker=MARKER) as written:
            write_curves(training.rows, written, kept=bundle.provenance["best_step"])
            bundle.save_into(written)
        _drop(folder)
    return bundle


@dataclass(frozen=True)
class _Job:
    """What is trained, by what recipe, and where its state lies."""

    dataset: Dataset
    recipe: CrossRecipe
    folder: Path
    validation: Validation
    first_stage: Bundle | None
    label_names: dict[int, str]

    @cached_property
    def identity(self) -> dict[str, str]:
        """What another training differs in."""
        return {
            "recipe": self.recipe.to_yaml(),
            "dataset": self.dataset.content_hash,
            "valid": self.validation.dataset.content_hash,
            "answers": self.validation.answers_hash,
            "first stage": "" if self.first_stage is None else self.first_stage.fingerprint,
            "label names": repr(sorted(self.label_names.items())),
        }

    def batches(self, epochs: int, start: int) -> PairBatches:
        """The batches of a phase from a step of it on. Raises: DataError where the pairs do not fill one."""
        try:
            return PairBatches(
                self.dataset,
                batch_size=self.recipe.batches.size,
                epochs=epochs,
                seed=self.recipe.optimiser.seed,
                start=start,
                boxes=True,
            )
        except ValueError as error:
            raise DataError(str(error), path=self.dataset.path) from error


class _Training:
    """The steps that are left, and what is kept of those that are done."""

    def __init__(
        self,
        job: _Job,
        state: TrainingState | None,
        device: torch.device,
        seconds_between_saves: float,
    ) -> None:
        self.job = job
        recipe = job.recipe
        self.tokenizer, self.model = initial_cross(job.dataset, recipe, job.label_names)
        if state is not None:
            state.load_model(self.model)
        self.model.to(device)
        self.bundle = CrossBundle(
            self.model, self.tokenizer, job.label_names, recipe.text.rules, recipe.to_yaml()
        )
        self.optimiser = _optimiser(self.model, recipe.optimiser.weight_decay)
        if state is not None:
            state.load_optimizer(self.optimiser)
        self.step = state.step if state else 0
        self.last_score = state.best if state else None
        self.rows = list(state.rows) if state else []
        self.losses = list(state.losses) if state else []
        self.before = state.seconds if state else 0.0
        self.started = self.saved = self.told = time.monotonic()
        self.seconds_between_saves = seconds_between_saves
        self.seconds_between_tells = 1.0
        self.progress: Progress | None = None
        self.pretraining = job.batches(max(1, recipe.pretrain.epochs), self.step)
        self.pretraining_steps = self.pretraining.steps if recipe.pretrain.epochs else 0
        self.ranking = job.batches(recipe.rank.epochs, max(0, self.step - self.pretraining_steps))
        self.steps = self.pretraining_steps + self.ranking.steps
        self.texts = TokenTable(
            self.tokenizer, self.bundle.spelled(job.dataset.query_texts), longest=self.model.body.longest
        )
        self.known = known_pairs(job.dataset, self.texts)

    def run(self) -> None:
        """Takes the steps that are left."""
        self.model.train()
        if self.step < self.pretraining_steps:
            for batch in self.pretraining:
                self._take(partial(self._pretrain, batch), self._rate(self.pretraining_steps, 0))
        if self.step == self.pretraining_steps and self.pretraining_steps and self.model.kind == "uniter":
            self.model.rank_as_match()
        if self.step < self.steps:
            rows, easy = self._first_rows(), self.job.recipe.rank.easy_epochs * self.ranking.steps_per_epoch
            negatives = self._negatives(None)
            for batch in self.ranking:
                if self.step - self.pretraining_steps == max(easy, self.ranking.start):
                    negatives = self._negatives(self.job.first_stage)
                rate = self._rate(self.ranking.steps, self.pretraining_steps)
                self._take(partial(self._rank, batch, rows, negatives), rate)

    def _rate(self, steps: int, before: int) -> float:
        own = self.job.recipe.optimiser
        return learning_rate(
            self.step - before, steps, highest=own.learning_rate, warmup=own.warmup, schedule="cosine"
        )

    def _take(self, compute: Callable[[np.random.Generator], float], rate: float) -> None:
        """One step: gradients, the weights after them, and what is due then."""
        own = self.job.recipe.optimiser
        self.losses.append(compute(np.random.default_rng([own.seed, self.step])))
        if own.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), own.gradient_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        ranked = self.step - self.pretraining_steps
        if ranked > 0 and (ranked % self.ranking.steps_per_epoch == 0 or self.step == self.steps):
            self._validate(rate)
        elif self.step % self.ranking.steps_per_epoch == 0:
            self._point(rate, None)
        now = time.monotonic()
        if now - self.saved >= self.seconds_between_saves:
            self._save()
        if self.progress is not None and now - self.told >= self.seconds_between_tells:
            self._tell(now)

    def _pretrain(self, batch: PairBatch, rng: np.random.Generator) -> float:
        recipe = self.job.recipe
        queries = torch.from_numpy(batch.queries)
        tokens, lengths = self.texts.rows(queries)
        numbers = self.texts.numbers[queries].numpy()
        hand = PairsAtHand(
            tokens,
            lengths,
            batch.regions.to(self.model.device),
            torch.from_numpy(others_of(self.known, numbers, batch.products, rng)),
        )
        torch.manual_seed(self._seed)
        with self._precise():
            loss = pretraining_loss(
                self.model, hand, rng, recipe=recipe.pretrain, spelling=self._spelling, tags=self.bundle.tags
            )
        torch.autograd.backward(loss)
        return float(loss.detach())

    def _rank(
        self,
        batch: PairBatch,
        rows: Int64[np.ndarray, " texts"],
        negatives: Negatives,
        rng: np.random.Generator,
    ) -> float:
        """The gradients of a batch of right pairs, each in a group of its text and one of its product."""
        own = self.job.recipe.rank
        texts = self.texts.numbers[torch.from_numpy(batch.queries)].numpy()
        places = np.searchsorted(self._products, batch.products)
        of_text = draw(negatives.products, texts, own.drawn, rng)
        of_product = draw(negatives.texts, places, own.drawn, rng)
        pairs = np.stack(
            [
                np.concatenate(
                    [np.repeat(texts[:, None], own.drawn + 1, 1), np.column_stack([texts, of_product])]
                ),
                np.concatenate(
                    [np.column_stack([places, of_text]), np.repeat(places[:, None], own.drawn + 1, 1)]
                ),
            ]
        )
        groups = pairs.shape[1]
        total = 0.0
        for chunk, start in enumerate(range(0, groups, self.job.recipe.batches.chunk)):
            some = pairs[:, start : start + self.job.recipe.batches.chunk]
            some = self._hardest(rows, some) if own.negatives < own.drawn else some
            torch.manual_seed(part_seed(self._seed, chunk))
            with self._precise():
                scores = self._scores(rows, some)
            loss = ranking_loss(scores, name=own.loss, margin=own.margin) * (some.shape[1] / groups)
            torch.autograd.backward(loss)
            total += float(loss.detach())
        return total

    def _hardest(
        self, rows: Int64[np.ndarray, " texts"], pairs: Int64[np.ndarray, "2 groups drawn"]
    ) -> Int64[np.ndarray, "2 groups chosen"]:
        """The groups with the negatives that score highest now."""
        with torch.no_grad(), at_rest(self.model), self._precise():
            scores = self._scores(rows, pairs).float()
        kept = torch.stack([hardest(own, self.job.recipe.rank.negatives) for own in scores]).cpu().numpy()
        return np.take_along_axis(pairs, kept[None], axis=2)

    def _scores(
        self, rows: Int64[np.ndarray, " texts"], pairs: Int64[np.ndarray, "2 groups candidates"]
    ) -> Float[Tensor, "groups candidates"]:
        texts, places = pairs.reshape(2, -1)
        tokens, lengths = self.texts.rows(torch.from_numpy(rows[texts]))
        distinct, back = np.unique(places, return_inverse=True)
        regions = self.job.dataset.regions(self._products[distinct], boxes=True).to(self.model.device)
        joined = join_pairs(
            tokens,
            lengths,
            regions.take(torch.from_numpy(back)),
            tags=self.bundle.tags,
            longest=self.model.body.longest,
        )
        return self.model.score(joined).view(pairs.shape[1:])

    @property
    def _seed(self) -> int:
        return self.job.recipe.optimiser.seed * _STEP_SEEDS + self.step

    @cached_property
    def _products(self) -> Int64[np.ndarray, " products"]:
        """The training products, ascending."""
        dataset = self.job.dataset
        return np.unique(dataset.pair_products[dataset.pair_training])

    @cached_property
    def _spelling(self) -> Spelling:
        numbers = {name: self.tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
        special = tuple(number for number in numbers.values() if number is not None)
        if (mask := numbers["[MASK]"]) is None:
            raise DataError("the tokenizer has no [MASK], which pre-training needs", field="text.tokenizer")
        return Spelling(mask, special, len(self.tokenizer.get_vocab()))

    def _first_rows(self) -> Int64[np.ndarray, " texts"]:
        """A row of the dataset's queries for each number of a text."""
        return np.unique(self.texts.numbers.numpy(), return_index=True)[1]

    def _negatives(self, first_stage: Bundle | None) -> Negatives:
        """The tables of a first stage; without one, of random negatives."""
        job, rows = self.job, self._first_rows()
        words = photos = None
        if first_stage is not None:
            words = first_stage.encode_texts([job.dataset.query_texts[row] for row in rows.tolist()])
            photos = first_stage.encode_dataset(job.dataset, self._products)
        training = job.dataset.pair_training
        numbers = self.texts.numbers.numpy()[job.dataset.pair_queries[training]]
        places = np.searchsorted(self._products, job.dataset.pair_products[training])
        return Negatives.of(
            words,
            photos,
            KnownPairs(numbers, places),
            (len(rows), len(self._products)),
            depth=job.recipe.rank.depth,
            seed=job.recipe.optimiser.seed,
        )

    @contextlib.contextmanager
    def _precise(self) -> Iterator[None]:
        """bf16 where a GPU computes, float32 elsewhere."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.model.device.type == "cuda"):
            yield

    def _validate(self, rate: float) -> None:
        valid = self.job.validation
        with self._precise():
            run = rerank(self.bundle, valid.dataset, unranked(valid.dataset))
        evaluation = evaluate(run, valid.answers)
        scores = {str(measure): evaluation.mean(measure) for measure in evaluation.measures}
        score = scores[str(OFFICIAL)]
        self.last_score = score
        save_best(self.job.folder, self.model, scores | {"step": self.step})
        self._point(rate, score)
        self._save()

    def _point(self, rate: float, score: float | None) -> None:
        """A point of the curve."""
        epoch = self.step / self.ranking.steps_per_epoch
        loss = float(np.mean(self.losses))
        self.rows.append(CurveRow(self.step, epoch, self.seconds, rate, loss, None, None, score))
        self.losses.clear()

    def _save(self) -> None:
        state = TrainingState(
            self.step, self.seconds, self.last_score, tuple(self.rows), tuple(self.losses), self.job.folder
        )
        state.write(self.model, self.optimiser, self.job.identity)
        self.saved = time.monotonic()

    def _tell(self, now: float) -> None:
        assert self.progress is not None
        speed = self.job.recipe.batches.size * self.step / self.seconds
        loss = float(np.mean(self.losses)) if self.losses else self.rows[-1].train_loss
        assert loss is not None  # every point has one
        self.progress(Moment(self.step, self.steps, speed, loss, self.last_score))
        self.told = now

    @property
    def seconds(self) -> float:
        """Spent on this training, those before a resume counted."""
        return self.before + time.monotonic() - self.started

    def best(self) -> CrossBundle:
        """The bundle of the last weights that were validated."""
        job = self.job
        self.model.cpu().eval()
        scores = read_best(job.folder, self.model)
        provenance: dict[str, Any] = {
            **job.identity,
            "shopwindow": shopwindow.__version__,
            "torch": torch.__version__,
            "pairs": int(job.dataset.pair_training.sum()),
            "best_step": int(scores.pop("step")),
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
        }
        self.bundle.provenance, self.bundle.scores = provenance, scores
        return self.bundle


def others_of(
    known: KnownPairs,
    texts: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    rng: np.random.Generator,
) -> Int64[np.ndarray, " pairs"]:
    """For each pair of a batch another whose text and product are not known to fit its own; itself where none is."""
    count = len(texts)
    fits = np.zeros((count, count), bool)
    fits.flat[known.cells(texts, products)] = True
    draws = rng.random((count, count))
    draws[fits | fits.T] = -1
    others = draws.argmax(axis=1)
    return np.where(draws[np.arange(count), others] < 0, np.arange(count), others)


def _optimiser(model: CrossModel, decay: float) -> torch.optim.Optimizer:
    """AdamW; matrices decay."""
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        [
            {"params": [own for own in parameters if own.ndim > 1], "weight_decay": decay},
            {"params": [own for own in parameters if own.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,
        betas=(0.9, 0.98),
        eps=1e-6,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _drop(folder: Path) -> None:
    """Removes a training's folder: first its name, in one step, so that no half of it is ever found."""
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
