"""What does a training step cost on this GPU, against the seed's padded step and the card's own rate?

`make bench-gpu`: one command, under 8 minutes, no network, nothing installed. Every part is a process of its own that
records when it is done, so that one that fails, or is stopped at its limit, costs no other:

- kernels: attention by the variable-length kernels against the groups, forward and backward
- step-512, step-2048, step-8192: ours in bf16, the seed's way (padded, fp16), `transformers` (padded to the longest)
- reading: batches as the trainer reads them, into pinned memory and on to the card
- losses, training, bundle: the project's own trainer: its first losses against a CPU's, its speed, a whole training
- processes: NCCL, as many processes as cards, two at most
- compiled: the step with compiled parts

At the end stands the projection for the competition's 14 epochs of 3 million pairs. `--toy` runs every line small on a
CPU and prints; `--part` runs one part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from record import ELSEWHERE, RESULTS, Figures, record

PAIRS_OF_AN_EPOCH: Final = 2_999_043
EPOCHS: Final = 14
LIMITS: Final = {
    "kernels": 60,
    "step-512": 75,
    "reading": 75,
    "losses": 60,
    "training": 100,
    "processes": 60,
    "step-2048": 60,
    "step-8192": 75,
    "bundle": 75,
    "compiled": 150,
}
"""Seconds that each part may take, in this order."""
ALL_SECONDS: Final = 465
LEAST_SECONDS: Final = 15


def main() -> None:
    """Runs every part, then projects; or runs one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="small, on a CPU: tests this script")
    parser.add_argument("--part", choices=list(LIMITS))
    options = parser.parse_args()
    if options.toy:
        os.environ.setdefault(ELSEWHERE, os.devnull)
    if options.part:
        sys.exit(run_part(options.part, toy=options.toy))
    if options.toy:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(run_all(Path(folder) / "results.jsonl", toy=True))
    import torch

    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device here (--toy runs the script on a CPU)")
    sys.exit(run_all(Path(os.environ.get(ELSEWHERE) or RESULTS), toy=False))


def run_all(results: Path, *, toy: bool) -> int:
    """Every part in turn, and the projection from what they recorded; gives the exit status."""
    began = time.monotonic()
    already = results.stat().st_size if results.exists() else 0
    outcomes: dict[str, str] = {}
    for part, limit in LIMITS.items():
        left = ALL_SECONDS - (time.monotonic() - began)
        started = time.monotonic()
        outcome = (
            "no time was left" if left < LEAST_SECONDS else started_part(part, min(limit, left), results, toy)
        )
        outcomes[part] = f"{outcome}, {time.monotonic() - started:.0f} s"
        print(f"== {part}: {outcomes[part]}", flush=True)
    found = results.read_bytes()[already:].decode() if results.exists() else ""
    entries = [json.loads(line) for line in found.splitlines()]
    os.environ[ELSEWHERE] = str(results)
    record(
        f"GPU: projection for {EPOCHS} epochs of {PAIRS_OF_AN_EPOCH:,} pairs, {card(toy)}",
        projection(entries),
    )
    for part, outcome in outcomes.items():
        print(f"{part}: {outcome}")
    return 0 if all(outcome.startswith("done") for outcome in outcomes.values()) else 1


def started_part(part: str, limit: float, results: Path, toy: bool) -> str:
    """Runs a part in a process group of its own and ends the group at the limit; how it went."""
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part, *(["--toy"] if toy else [])]
    environment = {**os.environ, ELSEWHERE: str(results)}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"stopped after {limit:.0f} s"
    return "done" if status == 0 else f"failed with {status}"


def run_part(part: str, *, toy: bool) -> int:
    """One part in this process: recorded with what it has, also when some of it was wrong; gives the exit status."""
    from gpu_parts import CARD, TOY, Scale, compiled, reading, steps

    scale: Scale = TOY if toy else CARD
    sizes = ", ".join(f"{pairs:,}" for pairs in scale.batches)
    towers = f"{scale.size.hidden} wide, {scale.size.layers} + {scale.size.layers} layers"
    if part == "kernels":
        import gpu_kernels

        pairs = scale.batches[0]
        found = gpu_kernels.measured(scale.device, pairs=pairs, rounds=scale.rounds, times=3 if toy else 20)
        question = f"GPU: attention over the regions of {pairs:,} photos"
    elif part.startswith("step-"):
        place = list(CARD.batches).index(int(part.removeprefix("step-")))
        pairs = scale.batches[min(place, len(scale.batches) - 1)]
        found = steps(scale, pairs)
        question = f"GPU: training step, {towers}, {pairs:,} pairs"
    elif part == "reading":
        found = reading(scale)
        question = f"GPU: reading batches of {sizes} from {scale.products:,} products"
    elif part == "compiled":
        found = compiled(scale)
        question = f"GPU: training step with compiled parts, {towers}, {sizes} pairs"
    else:
        import gpu_training

        data = f"{scale.products:,} pairs"
        parts = {
            "losses": (
                gpu_training.first_losses,
                "first losses of the project's trainer against a CPU's in float32",
            ),
            "training": (
                gpu_training.training,
                f"the project's trainer, {towers}, batches of {sizes} from {data}",
            ),
            "bundle": (gpu_training.bundles, f"a whole training, {towers}, {data}, to a bundle"),
            "processes": (
                gpu_training.together,
                f"several processes, {towers}, {scale.batches[0]:,} pairs each",
            ),
        }
        work, asked = parts[part]
        found, question = work(scale), f"GPU: {asked}"
    figures, wrong = found
    record(f"{question}, {card(toy)}", figures)
    for one in wrong:
        print(f"wrong: {one}", file=sys.stderr)
    return 1 if wrong else 0


def card(toy: bool) -> str:
    """The name of the card."""
    if toy:
        return "CPU, toy sizes"
    import torch

    return torch.cuda.get_device_name()


def projection(entries: list[dict[str, Any]]) -> Figures:
    """Minutes for the competition at the best batch size of each: computing, reading, the trainer; the seed's way.

    Computing and reading overlap, so the slower of the two bounds a training; the trainer is what there is today.
    """
    wanted = {
        "computing alone": ("ours", ": pairs/s", "GPU: training step"),
        "reading alone": ("", "pinned and sent: pairs/s", "GPU: reading"),
        "the trainer as it is": ("", "reading and Lightning among it", "GPU: the project's trainer"),
        "the seed's way, computing alone": ("seed", ": pairs/s", "GPU: training step"),
    }
    out: Figures = {}
    for name, (owner, ending, question) in wanted.items():
        speeds = [
            statistics.median(value) if isinstance(value, list) else value
            for entry in entries
            if entry["question"].startswith(question)
            for figure, value in entry["figures"].items()
            if figure.endswith(ending) and owner in figure
        ]
        if speeds:
            out[f"{name}: minutes"] = EPOCHS * PAIRS_OF_AN_EPOCH / max(speeds) / 60
    both = [out.get(f"{name}: minutes") for name in ("computing alone", "reading alone")]
    if all(isinstance(one, float) for one in both):
        out["bound by the slower of both: minutes"] = max(one for one in both if isinstance(one, float))
    return out


if __name__ == "__main__":
    main()
