"""Can every line be read? Wrapped at words on terminals of 60 columns and more, whole in a pipe; honest about time."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tokenizers import Tokenizer

from shopwindow.cli.arguments import VerbParser
from shopwindow.cli.console import AlignedTable, wrapped
from shopwindow.cli.progress import progress
from shopwindow.cli.systems import systems_of
from shopwindow.model.tokenizer_files import in_known_case
from shopwindow.model.tokens import train_tokenizer
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import Measure
from shopwindow.ranking.runs import Run

SENTENCE = "Serve the trained model: nDCG@5 0.687 against 0.514 of trained + full text; /a/" + "long/" * 20


@pytest.mark.parametrize("width", [60, 61, 80, 133])
def test_lines_are_wrapped_at_words(width: int) -> None:
    lines = wrapped(SENTENCE, width).splitlines()
    assert " ".join(lines) == SENTENCE
    assert all(len(line) <= width or " " not in line for line in lines)
    assert len(lines) == len(textwrap.wrap(SENTENCE.rpartition(" ")[0], width, break_on_hyphens=False)) + 1


@pytest.mark.parametrize("width", [60, 90])
def test_a_table_loses_no_word_on_a_narrow_terminal(width: int) -> None:
    head = [
        "90 queries of held-out clicks",
        "nDCG@5",
        "95 % interval",
        "hit@1",
        "recall@10",
        "to the best other",
    ]
    table = AlignedTable(head)
    table.add_row("trained + full text", "0.514", "0.435 to 0.592", "0.289", "0.944", "-0.206 (p = 0.0007)")
    shown = io.StringIO()
    Console(file=shown, width=width, force_terminal=False).print(table)
    words = shown.getvalue().split()
    assert all(word in words for cell in head for word in cell.split())
    assert {"0.514", "recall@10", "0.944", "-0.206", "0.0007)"} <= set(words)
    assert max(map(len, shown.getvalue().splitlines())) <= width


def test_a_terminal_is_told_at_once_what_train_does(tmp_path: Path) -> None:
    """Before torch is imported: the dataset is missing, which is found after it."""
    command = [sys.executable, "-m", "shopwindow", "train", "none", "--out", "bundle"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=tmp_path)
    first = os.read(ours, 200).decode()
    process.kill()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0  # it was waited for here
    assert used.ru_utime + used.ru_stime < 2
    assert first.startswith("train: recipe default, the pairs of none, into bundle")
    os.close(ours)
    os.close(theirs)


def test_no_time_is_promised_of_the_first_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of 100 steps takes 40 s, the others 1 s each."""
    clock = iter([0.0, 40.0, 41.0, 42.0, 50.0])
    monkeypatch.setattr("shopwindow.cli.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("shopwindow.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    with progress("train") as show:
        for step in (1, 2, 3, 11):
            show(float(step), 100.0, f"step {step}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train: step 1",
        "train: step 2",
        "train: step 3, 97 s left",
        "train: step 11, 89 s left",
    ]


def test_no_time_is_promised_of_photos_that_were_read_ahead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After 5 s of waiting 8 of 100 photos come within a moment; then one comes each second."""
    clock = iter([0.0, 4.8, 5.1, 12.8])
    monkeypatch.setattr("shopwindow.cli.progress.time.monotonic", lambda: next(clock))
    with progress("extract") as show:
        for photos in (4, 12, 20):
            show(float(photos), 100.0, f"{photos} photos")
    assert capsys.readouterr().err.splitlines() == ["extract: 12 photos", "extract: 20 photos, 40 s left"]


def test_systems_are_named_by_files_and_no_more_folders_than_needed() -> None:
    answers = Answers.from_lists({"1": ["7"]})
    columns = [(np.array([1, 1]), np.array([7, 8]), np.array([score, 0.5])) for score in (0.9, 0.1)]
    made = [Run.from_arrays(*three, name="a") for three in columns]
    words = ["/x/one/a.run", "/x/two/a.run"]
    systems = systems_of(words, [[run] for run in made], answers, [Measure("nDCG", 5)])
    assert [system.name for system in systems] == ["one/a", "two/a"]


def search(
    index: str, words: list[str] | None = None, *, where: list[str] | None = None, top: int = 1
) -> None:
    """Finds.

    Args:
        index: The index.
        words: The words.
        where: Conditions.
        top: How many.
    """


@pytest.mark.parametrize(
    "words",
    [
        "i blue --top 3 lamp",
        "i --where price<40 blue lamp --top 3",
        "i --where price<40 --top 3 blue lamp",
        "--top 3 i blue --where=price<40 lamp",
    ],
)
def test_what_is_no_condition_after_where_is_a_word(words: str) -> None:
    read = VerbParser("search", search, example="search i red").read(words.split())
    assert (read["index"], read["words"], read["top"]) == ("i", ["blue", "lamp"], 3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["round lamp", "Fjord watch", "round table"] * 3, vocabulary=200)


def test_words_with_capitals_are_read_as_the_model_knows_them(tokenizer: Tokenizer) -> None:
    texts = ["Round LAMP", "Fjord watch", "fjord Zzz", "round  lamp"]
    assert in_known_case(tokenizer, texts) == ["round lamp", "Fjord watch", "fjord Zzz", "round  lamp"]
