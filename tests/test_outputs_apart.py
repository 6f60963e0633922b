"""No verb writes where it reads: an output is no input, lies inside none, and replaces no directory that holds one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import pytest

import shopwindow as sw
from shopwindow.cli import VERBS, main, parser_of
from shopwindow.cli.arguments import Filled, VerbParser
from shopwindow.files import DataError, check_apart


@functools.cache
def parser(name: str) -> VerbParser:
    return parser_of(name)[0]


NAMES = [name for group in VERBS.values() for name in group]
OUTPUTS = [(name, out) for name in NAMES for out in parser(name)._outputs]
INPUTS = [
    (name, out, action.dest)
    for name, out in OUTPUTS
    for action in parser(name)._actions
    if (action.metavar == "PATH" or not action.option_strings)
    and action.dest not in ("ids", "words", *parser(name)._outputs)
]


def words(name: str, paths: dict[str, str]) -> list[str]:
    """A command of the verb: these paths, and for all else that it needs a name of its own."""
    said = []
    for action in parser(name)._actions:
        if action.dest in paths or action in parser(name)._wanted:
            word = paths.get(action.dest, next(iter(action.choices or [f"other-{action.dest}"])))
            said += [*action.option_strings[:1], word]
    return said


def refused(name: str, paths: Mapping[str, str | Path]) -> None:
    with pytest.raises(DataError, match=r"same place as|lies inside"):
        parser(name).read(words(name, {key: str(path) for key, path in paths.items()}))


def test_every_verb_with_an_option_out_says_what_it_writes() -> None:
    assert {name for name, out in OUTPUTS if out == "out"} == {
        name for name in NAMES if any(action.dest == "out" for action in parser(name)._actions)
    }
    assert {("search", "run"), ("rank", "explain"), ("report", "plots"), ("audit", "html")} < set(OUTPUTS)
    assert len(INPUTS) > 50


@pytest.mark.parametrize(("name", "out", "read"), INPUTS)
def test_no_output_is_an_input_or_lies_inside_one(tmp_path: Path, name: str, out: str, read: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for same in ("in", "in/", "./in", "in/../in", "link", "link/."):
        refused(name, {read: tmp_path / "in", out: f"{tmp_path}/{same}"})
    refused(name, {read: tmp_path / "in", out: tmp_path / "link" / "deep" / "x"})
    if parser(name)._outputs[out] is not Filled:
        refused(name, {read: tmp_path / "in", out: tmp_path})
    parser(name).read(words(name, {read: str(tmp_path / "in"), out: str(tmp_path / "in-beside")}))


def test_outputs_of_one_command_lie_apart_too(tmp_path: Path) -> None:
    refused("rank", {"out": tmp_path / "x", "explain": tmp_path / "x"})
    refused("rank", {"out": tmp_path / "x" / "valid.run", "explain": tmp_path / "x"})
    read = words("report", {"out": str(tmp_path / "p" / "page.html"), "plots": str(tmp_path / "p")})
    assert parser("report").read(read)["plots"]


def test_seeds_joined_by_commas_and_models_in_place_of_names_are_inputs_too(tmp_path: Path) -> None:
    refused("report", {"runs": f"{tmp_path}/a.run,{tmp_path}/b.run", "out": tmp_path / "b.run"})
    cross = tmp_path / "cross"
    cross.mkdir()
    said = words("rank", {"rerank": str(cross), "out": str(cross / "x.run")})
    assert parser("rank").read(said)  # a folder named as an operator of pools
    (cross / "cross.json").write_text("{}")
    with pytest.raises(DataError, match="lies inside"):
        parser("rank").read(said)


def test_names_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bow", "lite0", "lamp"):
        Path(name).mkdir()
    for said in (
        ["train", "d", "--recipe", "bow", "--out", "bow"],
        ["extract", "p.csv", "--backbone", "lite0", "--out", "lite0/features"],
        ["search", "i", "lamp", "--run", "lamp/x.run"],
        ["fuse", "a", "b", "--out", "-"],
        ["fuse", "-", "b", "--out", "-"],
    ):
        parser(said[0]).read(said[1:])


def test_nothing_is_read_or_written_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "a.run"
    run.write_text("1 Q0 7 1 0.5 a\n")
    with pytest.raises(SystemExit) as left:
        main(["fuse", str(run), str(tmp_path / "b.run"), "--out", str(tmp_path / "." / "a.run")])
    assert left.value.code == 2
    assert (
        capsys.readouterr().err == f"shopwindow: --out: {run} is the same place as {run}; give another name\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.run"]


def test_functions_of_python_have_the_same_rule(tmp_path: Path) -> None:
    for call in (
        lambda out: sw.extract(tmp_path / "in", out),
        lambda out: sw.extract("p.csv", out, photos=tmp_path / "in"),
        lambda out: sw.prepare(tmp_path / "in", out),
        lambda out: sw.prepare([], out, features=tmp_path / "in"),
        lambda out: sw.train(tmp_path / "in", out),
        lambda out: sw.rank(tmp_path / "in", tmp_path / "data", out=out),
    ):
        for out in (tmp_path / "in", tmp_path / "in" / "x"):
            with pytest.raises(DataError, match=r"^out: .*(same place as|lies inside)"):
                call(out)


def test_standard_streams_lie_apart_from_everything() -> None:
    check_apart("-", ["-", "a"], field="--out")
