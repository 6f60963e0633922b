"""The verbs that learn: train and rank. They read, call `shopwindow.model`, and write; they hold no logic."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shopwindow.cli import teaching
from shopwindow.cli.arguments import Replaced, at_least, numbers, only_with
from shopwindow.cli.console import counted, remark, say
from shopwindow.cli.shards import ShardOptions
from shopwindow.cli.threads import take_threads
from shopwindow.files import STANDARD_STREAM, DataError, check_replaceable, check_writable
from shopwindow.processors import processors
from shopwindow.shards import forget

if TYPE_CHECKING:
    from shopwindow.data.dataset import Dataset
    from shopwindow.model.bundle import Bundle
    from shopwindow.model.recipe import Recipe
    from shopwindow.model.watch import Moment
    from shopwindow.ranking.operators import Operator
    from shopwindow.ranking.runs import Run

Device = Literal["auto", "cpu", "cuda"]
EXPLANATIONS = "explanations.json"
_LEFT_OUT = {
    "title": "trained without a part for titles: the dataset has none",
    "pretrained": "trained without a pretrained part: what encoded the photos reads no text (CLIP and SigLIP do)",
}
_MASKED = {
    "none": "are known matches; they count as negatives all the same (loss.masking)",
    "same": "are known matches; those of the same text or product were masked (loss.masking)",
    "known": "are known matches (same text, same product, a known pair) and were masked",
}
_WEIGHED = {
    "none": "in the loss each counts once",
    "linear": "in the loss each counts by its weight",
    "log": "in the loss each counts by 1 + the logarithm of its weight",
}
FIRST = 50
"""Products of a pool that a cross-encoder scores, where nothing else is asked for."""
_MOST_PROCESSES = 4
"""That share a processor in one training."""


def train(
    dataset: str,
    *,
    out: Replaced,
    valid: str | None = None,
    answers: str | None = None,
    recipe: str = "default",
    set: list[str] | None = None,
    resume: bool = False,
    teacher: list[str] | None = None,
    first_stage: str | None = None,
    labels: str | None = None,
    device: Device = "auto",
    devices: int = 1,
    threads: int | None = None,
    bounded_memory: bool = False,
) -> None:
    """Learn a model from the pairs of a dataset.

    Which step's weights are kept, optimiser.keep of the recipe says: the last; or those best on pairs held out of the
    training itself. A validation set is only measured, unless the recipe says valid, as the seed does.

    Args:
        dataset: The pairs to learn from, a dataset that `shopwindow prepare` wrote.
        out: The bundle to write, a directory.
        valid: The pools to measure on, a dataset. Not needed where the dataset has held-out clicks, or the recipe
            holds pairs out.
        answers: The right products of the validation queries: competition JSON or TREC qrels.
        recipe: A recipe's name (default, shop, linear, late, bow, small, seed) or a YAML file of differences from the
            defaults, or from the recipe it names as its base. A cross-encoder, which orders the first products of
            another model anew, has uniter, oscar, uniter-small or oscar-small.
        set: Fields of the recipe changed, by dotted name: optimiser.epochs=3 parts.0.width=128.
        resume: Never drop an interrupted training of another recipe or other data, and keep a finished bundle. One of
            the same recipe and data goes on in any case, and ends with the same weights as if begun anew.
        teacher: Runs that rank pools of the training queries (rank --pools-from makes such pools); the model learns
            their order beside the pairs, as the recipe's group teacher says. Several count alike.
        first_stage: Of a cross-encoder: the bundle whose nearest products and texts are its negatives; random ones are
            taken without it.
        labels: Of a cross-encoder: the competition's table of label names, which oscar reads as tags.
        device: Where to compute; auto takes a GPU where there is one.
        devices: How many GPUs (or, on a CPU, processes) share every batch; they must divide its size.
            The weights are those of one device but for rounding, and for dropout unless the recipe's chunk divides a
            device's share.
        threads: Threads of one process; as many as there are processors when not given. Weights differ by rounding
            with their number.
        bounded_memory: Read the training's regions by system calls instead of the memory map, so that what was read
            once does not count as memory of the process.
    """
    from shopwindow.cli.progress import progress, started
    from shopwindow.model.cross_recipe import names_cross_recipe
    from shopwindow.model.given import check_devices, check_given

    if (valid is None) != (answers is None):
        raise DataError("go together: give both or neither", field="--valid, --answers")
    take_threads(threads)
    # What can be refused without data or a library that takes seconds to import comes first.
    if names_cross_recipe(recipe):
        if devices != 1:
            raise DataError(f"{devices}, a cross-encoder trains on 1", field="--devices")
        if valid is None or answers is None:
            raise DataError("a cross-encoder is validated on pools: give both", field="--valid, --answers")
        only_with("goes with the recipe of one vector, not with a cross-encoder", teacher=teacher)
        _train_cross(
            recipe,
            assignments(set or ()),
            dataset=dataset,
            valid=valid,
            answers=answers,
            out=out,
            first_stage=first_stage,
            labels=labels,
            resume=resume,
            device=device,
            mapped=not bounded_memory,
        )
        return
    only_with("goes with the recipe of a cross-encoder", first_stage=first_stage, labels=labels)
    chosen = teaching.load_taught_recipe(recipe, assignments(set or ()), teacher)
    batches = chosen.batches
    check_devices(devices, size=batches.size, order=batches.order, late=chosen.late is not None)
    check_given(chosen.text, chosen.parts)
    started("train", f"recipe {recipe}, the pairs of {dataset}, into {out}")
    _device(device)
    _enough(device, devices)
    from shopwindow.data.dataset import Dataset
    from shopwindow.model.training import train as train_model
    from shopwindow.model.validation import Validation
    from shopwindow.ranking.answers import read_answers

    pairs = Dataset(dataset, mapped=not bounded_memory)
    validation = None
    if valid is not None and answers is not None:
        validation = Validation(Dataset(valid), read_answers(answers))
    with progress("train") as show:

        def tell(moment: Moment) -> None:
            best = "" if moment.best is None else f", nDCG@5 {moment.best:.4f}"
            says = f"step {moment.step}/{moment.steps}, {moment.pairs_per_second:,.0f} pairs/s"
            if moment.contamination is not None:
                best += f", {moment.contamination:.1%} of mined negatives likely true"
            show(float(moment.step), float(moment.steps), f"{says}, loss {moment.loss:.4f}{best}")

        bundle = train_model(
            pairs,
            chosen,
            out,
            validation=validation,
            resume=resume,
            device=device,
            devices=devices,
            progress=tell,
            teacher=teaching.read_teacher(teacher, pairs),
        )
    _print_trained(bundle, pairs, chosen)
    say(f"bundle: {out}")


def rank(
    bundle: str,
    dataset: str,
    *,
    out: Replaced,
    smooth: str | None = None,
    operator: str | None = None,
    rerank: str | None = None,
    first: int | None = None,
    pools_from: str | None = None,
    nearest: int | None = None,
    others: int | None = None,
    explain: Replaced | None = None,
    explain_queries: int = 20,
    explain_top: int = 3,
    photos: str | None = None,
    device: Device = "auto",
    threads: int | None = None,
    shard: str | None = None,
    merge: bool = False,
    shards: int | None = None,
    over: str | None = None,
) -> None:
    """Score every candidate of every query of a dataset and write the run.

    Args:
        bundle: A model that `shopwindow train` wrote, or a folder of `shopwindow shop`.
        dataset: Queries and their pools, a dataset.
        out: The run to write, in TREC form; gzipped when it ends in .gz; - is standard output.
        smooth: Weights of each region itself, its nearest, its second nearest ... in its pool, such as 0.7,0.2,0.1;
            none leaves the regions as they are.
        operator: How the vectors of each pool score it: smooth:0.7,0.2,0.1 (each photo leans on its nearest),
            expand:5,3 (alpha query expansion: top, alpha), reciprocal:20,6,0.3 (k-reciprocal re-ranking: k1, k2, weight
            of the plain distance); a name alone has these numbers. None is the dot product.
        rerank: A cross-encoder, a directory that train writes by the recipe uniter or oscar, which orders the first
            products of each pool anew.
        first: How many products of a pool it scores: 50 when not given.
        pools_from: An index or bundle whose nearest products of each training query, and others at random, are scored
            in place of the dataset's own pools: a run for train --teacher.
        nearest: How many nearest products: 100 when not given.
        others: How many others: 100 when not given.
        explain: A directory to write which word looks at which box: explanations.jsonl, and a picture each.
        explain_queries: Of how many queries, in the order of their ids.
        explain_top: Of how many of each query's first products.
        photos: The folder of the photos, PRODUCT_ID.jpg or .png, for the pictures; without it boxes stand alone.
        device: Where to compute; auto takes a GPU where there is one.
        threads: How many to compute with; as many as there are processors when not given.
        shard: Do one shard of the work alone, such as 3/10, beside OUT; slurm takes it from the task of a Slurm array.
        merge: Join the shards that --shard made, once all are there.
        shards: Into how many shards --over cuts the work; none given: by its size.
        over: Do the work in shards over several workers, then join them: processes, processes:N, ray or
            ray://HOST:PORT.
    """
    from shopwindow.cli.progress import counting, started
    from shopwindow.data.dataset import Dataset

    take_threads(threads)
    weights = numbers(smooth, field="--smooth", such_as="0.7,0.2,0.1")
    scoring = None if operator is None else _operator(operator)
    if explain is not None:
        at_least(1, explain_queries=explain_queries, explain_top=explain_top)
        check_replaceable(explain, marker=EXPLANATIONS)
        if photos is not None and not Path(photos).is_dir():
            raise DataError("no such folder", path=photos, field="--photos")
    else:
        only_with("goes with --explain", photos=photos)
    if rerank is None:
        only_with("goes with --rerank", first=first)
    if pools_from is None:
        only_with("goes with --pools-from", nearest=nearest, others=others)
    at_least(1, first=first, nearest=nearest)
    at_least(0, others=others)
    if out != STANDARD_STREAM:
        check_writable(out)
        started("rank", f"the candidates of {dataset} by {bundle}, into {out}")
    from shopwindow.model.bundle import Bundle
    from shopwindow.model.pool_shards import PoolWork, joined
    from shopwindow.model.rank import rank_pools
    from shopwindow.model.rerankers import find
    from shopwindow.ranking.runs import write_run

    options, folders = ShardOptions(shard, merge, shards, over), list[Path]()
    if options.given:
        only_with("goes without shards", pools_from=pools_from)
        each = options.threads(threads)
        work = PoolWork(bundle, dataset, weights, operator, rerank, first or FIRST, _device(device), each)
        folders = options.run("rank", work, out, threads=each, gpus=float(device == "cuda"))
        if not folders:
            return
    opened = Bundle.load(bundle, device=_device(device))
    pools = Dataset(dataset)
    if options.given:
        run = joined(folders)
    else:
        chosen = (
            None
            if pools_from is None
            else teaching.pools_from(pools_from, pools, nearest=nearest, others=others)
        )
        reranker = opened.reranker if scoring is None else find(scoring, opened)
        with counting("rank", "products") as tell:
            run = rank_pools(opened, pools, reranker=reranker, smooth=weights, pairs=chosen, progress=tell)
        if rerank is not None:
            run = _reranked(run, rerank, pools, first or FIRST, device)
    write_run(run, out)
    if options.given:
        forget(folders)
    if strange := _without_known_words(opened, pools.query_texts):
        whose = counted(strange, "query has", "queries have")
        remark(f"{whose} no word that the model knows: the order of their candidates says nothing")
    if out != STANDARD_STREAM:
        queries, candidates = counted(len(run.queries), "query", "queries"), counted(len(run), "candidate")
        say(f"{out}: {queries}, {candidates}")
    if explain is not None:
        from shopwindow.model.explanation import explain_run
        from shopwindow.report.explanations import write_explanations

        found = explain_run(opened, pools, run, queries=explain_queries, top=explain_top)
        write_explanations(found, pools, explain, photos=photos)
        if out != STANDARD_STREAM:
            say(f"explanations: {explain}")


def _print_trained(bundle: Bundle, pairs: Dataset, recipe: Recipe) -> None:
    """Says what the model reached, and what was left out. Of competition files also what was masked and weighted, and
    the audit; `bundle.json` keeps these of a shop too."""
    from shopwindow.model.mining import Contamination, summary

    for reads in bundle.provenance.get("left_out", ()):
        say(_LEFT_OUT[reads])
    best_step, steps = bundle.provenance["best_step"], bundle.provenance["steps"]
    scores = ", ".join(f"{name} {value:.4f}" for name, value in bundle.scores.items())
    if scores:
        say(f"validation: {scores}")
    say(f"kept: the weights after step {best_step} of {steps}, {bundle.provenance['kept']}")
    if pairs.held_out("valid") is not None:
        return
    known_matches = bundle.provenance["false_negatives_a_batch"]
    if known_matches is not None:
        cells = recipe.batches.size * (recipe.batches.size - 1)
        say(f"{known_matches / cells:.1%} of the negatives in a batch {_MASKED[recipe.loss.masking]}")
    tables = [Contamination(**table) for table in bundle.provenance.get("contamination", ())]
    if of_mined := summary(tables):
        say(of_mined)
    if pairs.has_weights:
        weights = pairs.pair_weights[pairs.pair_training]
        counts = _WEIGHED[recipe.loss.weighting]
        say(f"pairs have weights from {weights.min():g} to {weights.max():g}; {counts} (loss.weighting)")
    say(f"audit of the validation set: {bundle.audit['verdict']}")


def _train_cross(
    recipe: str,
    changed: dict[str, str],
    *,
    dataset: str,
    valid: str,
    answers: str,
    out: str,
    first_stage: str | None,
    labels: str | None,
    resume: bool,
    device: Device,
    mapped: bool,
) -> None:
    """Trains a cross-encoder and says what came of it."""
    from shopwindow.cli.progress import progress, started
    from shopwindow.model.cross_recipe import load_cross_recipe

    chosen = load_cross_recipe(recipe, changed)
    started("train", f"recipe {recipe}, the pairs of {dataset}, into {out}")
    place = _device(device)
    from shopwindow.data.dataset import Dataset
    from shopwindow.model.bundle import Bundle
    from shopwindow.model.cross_training import train_cross
    from shopwindow.model.validation import Validation
    from shopwindow.ranking.answers import read_answers
    from shopwindow.search.building import read_label_names

    with progress("train") as show:

        def tell(moment: Moment) -> None:
            best = "" if moment.best is None else f", best nDCG@5 {moment.best:.4f}"
            says = f"step {moment.step}/{moment.steps}, {moment.pairs_per_second:,.0f} pairs/s"
            show(float(moment.step), float(moment.steps), f"{says}, loss {moment.loss:.4f}{best}")

        bundle = train_cross(
            Dataset(dataset, mapped=mapped),
            chosen,
            out,
            validation=Validation(Dataset(valid), read_answers(answers)),
            first_stage=None if first_stage is None else Bundle.load(first_stage, device=place),
            label_names=None if labels is None else read_label_names(labels),
            resume=resume,
            device=place,
            progress=tell,
        )
    scores = ", ".join(f"{name} {value:.4f}" for name, value in bundle.scores.items())
    done = f"after step {bundle.provenance['best_step']} of {bundle.provenance['steps']}"
    say(f"valid, whole pools: {scores} ({done})")
    say(f"cross-encoder: {out}")


def _reranked(run: Run, path: str, pools: Dataset, first: int, device: Device) -> Run:
    """The run with its first products in the order of a cross-encoder."""
    from shopwindow.cli.progress import counting
    from shopwindow.model.cross_bundle import CrossBundle
    from shopwindow.model.cross_rank import rerank

    bundle = CrossBundle.load(path, device=_device(device))
    with counting("rerank", "pairs") as tell:
        return rerank(bundle, pools, run, first=first, name=run.name, progress=tell)


def assignments(texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            raise DataError(f"{text!r} is not field=value", field="--set")
        if key in found:
            raise DataError(f"{key} is given twice", field="--set")
        found[key] = value
    return found


def _without_known_words(bundle: Bundle, texts: list[str]) -> int:
    """How many of some queries have no word that the model knows."""
    words = list(dict.fromkeys(word for text in texts for word in text.split()))
    known = {word for word, is_known in zip(words, bundle.knows(words), strict=True) if is_known}
    return sum(known.isdisjoint(text.split()) for text in texts)


def _operator(text: str) -> Operator:
    from shopwindow.ranking.operators import Operator

    try:
        return Operator.parse(text)
    except ValueError as error:
        raise DataError(str(error), field="--operator") from error


def _enough(device: Device, devices: int) -> None:
    import torch

    if device != "cpu" and torch.cuda.is_available():
        if devices > torch.cuda.device_count():
            raise DataError(
                f"{devices}, there are {torch.cuda.device_count()} CUDA devices", field="--devices"
            )
        return
    here = processors()
    if devices > _MOST_PROCESSES * here:
        raise DataError(f"{devices} processes, there are {counted(here, 'processor')}", field="--devices")
    if devices > here:
        remark(f"--devices {devices}: as many processes share {counted(here, 'processor')} and are slower")


def _device(device: Device) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError("there is no CUDA device here", field="--device")
    return device
