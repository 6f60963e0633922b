"""Does the command line read as its help says? Help, examples, misspelt words, options and words in any order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal

import pytest

from shopwindow import __version__
from shopwindow.cli import VERBS, main, parser_of
from shopwindow.cli.arguments import _PLACEHOLDERS, VerbParser
from shopwindow.cli.learn import _enough
from shopwindow.files import DataError

ROOT = Path(__file__).parent.parent
NAMES = [name for group in VERBS.values() for name in group]
TYPES = re.compile(r"\b(str|int|float|bool|null|Optional|Literal|Union)\b|\| None|type:")


def toy(
    index: str,
    words: list[str] | None = None,
    *,
    top: int = 10,
    share: float = 0.5,
    labels: list[int] | None = None,
    kind: Literal["a", "b"] = "a",
    exact: bool = False,
) -> None:
    """Finds 100 % of the words.

    Args:
        index: The index.
        words: The words,
            50 % of them.
        top: How many.
        share: A share.
        labels: Labels.
        kind: A kind.
        exact: All of them.
    """


def read(*words: str) -> dict[str, object]:
    return VerbParser("toy", toy, example="toy i red").read(words)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def command(line: str) -> tuple[str, list[str]]:
    """The verb of a command line, and its words."""
    program, *words = shlex.split(line, comments=True)
    assert program == "shopwindow"
    for count in (2, 1):
        if " ".join(words[:count]) in NAMES:
            return " ".join(words[:count]), words[count:]
    raise AssertionError(f"no verb: {line}")


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_verb_has_a_sentence_plain_options_and_an_example_that_parses(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        main([*name.split(), "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert not TYPES.search(said), TYPES.findall(said)
    assert "--config" not in said
    assert all(len(line) <= 80 for line in said.splitlines() if "shopwindow" not in line)
    usage, _, rest = said.partition("\n\n")
    assert usage.startswith(f"usage: shopwindow {name} ")
    assert re.match(r"[A-Z][^.]+\.", rest)
    example = said.splitlines()[-1].strip()
    verb, words = command(example)
    assert verb == name
    parser, _ = parser_of(name)
    parser.read(words)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_a_verb_is_described(name: str) -> None:
    parser, _ = parser_of(name)
    assert all(action.help for action in parser._actions)


def test_every_named_placeholder_is_an_option_of_some_verb() -> None:
    options = {
        action.dest for name in NAMES for action in parser_of(name)[0]._actions if action.option_strings
    }
    assert set(_PLACEHOLDERS) <= options


def test_help_lists_every_verb_once_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for name in NAMES:
        assert sum(line.startswith(f"  {name}  ") for line in lines) == 1, name
    assert [line for line in lines if line in VERBS] == list(VERBS)


def test_help_of_a_noun_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["index", "--help"])
    said = capsys.readouterr().out
    assert re.findall(r"^  (\w+ \w+) ", said, re.MULTILINE) == [
        name for name in NAMES if name.startswith("index ")
    ]


def test_readme_shows_commands_that_parse() -> None:
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("shopwindow ")]
    for line in lines:
        name, words = command(line)
        parser_of(name)[0].read(words)
    assert len(lines) > 10


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"shopwindow {__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "shopwindow.__version__"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serach x", "serach: no such verb; did you mean search?"),
        ("idnex make", "idnex: no such verb; did you mean index?"),
        ("index mkae a", "index mkae: no such verb; did you mean make?"),
        ("index --check i", "index --check: no such verb; did you mean check?"),
        ("export", "export: one of parquet, pgvector, qdrant, lance, milvus, onnx, bert is wanted"),
        ("xyzzy", "xyzzy: no such verb"),
        ("delete i 7", "delete: no such verb; did you mean index delete?"),
        ("index mak", "index mak: no such verb; did you mean make?"),
        ("export vectors i", "export vectors: no such verb; did you mean pgvector?"),
        (
            "export xyzzy",
            "export xyzzy: no such verb; one of parquet, pgvector, qdrant, lance, milvus, onnx, bert is wanted",
        ),
        ("", "a verb is wanted"),
        ("help", "help: no such verb; did you mean --help?"),
        ("--versio", "--versio: no such verb; did you mean --version?"),
        ("search i red --tpo 3", "--tpo: no such option; did you mean --top?"),
        ("search i red --xyzzy", "--xyzzy: no such option"),
        ("search i red --top many", "--top: 'many', a whole number is wanted"),
        ("serve i --seconds soon", "--seconds: 'soon', a number is wanted"),
        ("rank b d --out x --device tpu", "--device: invalid choice: 'tpu'"),
        ("rank b d", "the following arguments are required: --out"),
        ("rank b --out x", "the following arguments are required: DATASET"),
        ("rank b", "the following arguments are required: DATASET, --out"),
        ("index compact i more", "unrecognized arguments: more"),
    ],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], words: str, says: str) -> None:
    line = refusal(capsys, *words.split())
    assert line.startswith(f"shopwindow: {says}")
    assert line.endswith(" (--help says more)")


def test_words_stand_before_and_after_options() -> None:
    found = read("i", "blue", "--top", "3", "lamp", "--exact", "red")
    assert found == {
        "index": "i",
        "words": ["blue", "lamp", "red"],
        "top": 3,
        "share": 0.5,
        "labels": None,
        "kind": "a",
        "exact": True,
    }
    assert read("--top=3", "i")["words"] == []


def test_negative_numbers_are_words_and_values() -> None:
    found = read("i", "-5", "--top", "-3", "--labels", "-1", "2", "--share", "-0.5")
    assert (found["words"], found["top"], found["labels"], found["share"]) == (["-5"], -3, [-1, 2], -0.5)


def test_what_follows_two_dashes_is_words() -> None:
    assert read("i", "--top", "3", "--", "--exact", "--exact")["words"] == ["--exact", "--exact"]


def test_a_list_is_given_at_once_or_in_turn() -> None:
    assert read("i", "--labels", "1", "2", "--labels", "3")["labels"] == [1, 2, 3]


@pytest.mark.parametrize("words", [["--top", "3", "--top=3"], ["--exact", "--exact"]])
def test_an_option_of_one_value_given_twice_is_refused(words: list[str]) -> None:
    with pytest.raises(DataError, match=f"{words[0]}: is given twice"):
        read("i", *words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["index", "make", "", "d", "--out", "o"], "BUNDLE: is empty, a name was wanted"),
        (["extract", "p", "--photos", "", "--out", "o"], "--photos: is empty, a name was wanted"),
        (["train", "d", "--out", "o", "--teacher", "a", ""], "--teacher: is empty, a name was wanted"),
    ],
)
def test_an_empty_name_is_no_name_of_the_current_folder(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert says in refusal(capsys, *words)


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "index", "make", "b", "d", "--ou", "x").startswith(
        "shopwindow: --ou: no such option; did you mean --out?"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.run").write_text("1 Q0 7 1 0.5 a\n1 Q0 8 2 0.4 a\n")
    (tmp_path / "b.json").write_text('{"1": [7]}')
    command = [
        sys.executable,
        "-m",
        "shopwindow",
        "evaluate",
        str(tmp_path / "a.run"),
        str(tmp_path / "b.json"),
    ]
    for more in ([], ["--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*command, *more], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, done.stderr) == (
            2,
            "shopwindow: standard output: cannot be written: No space left on device\n",
        )


def test_an_ascii_terminal_is_told_in_ascii(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    names = (b"cr\xc3\xaape.run", b"\xff.run")
    for name in names:
        command = [sys.executable.encode(), b"-m", b"shopwindow", b"evaluate", name, b"x"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 2
        assert done.stderr.isascii()
        assert b"no such file" in done.stderr
        assert done.stderr.count(b"\n") == 1


def test_many_more_processes_than_processors_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"^--devices: 1000000 processes, there are "):
        _enough("cpu", 1_000_000)
    _enough("cpu", 1 + (os.cpu_count() or 1))
    assert "are slower" in capsys.readouterr().err


def test_a_number_beyond_64_bits_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    says = refusal(capsys, "draw", "shop", "--seed", "9" * 30)
    assert "--seed: 999999999999999999999999999999, a whole number of at most 18 digits is wanted" in says
