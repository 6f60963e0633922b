"""What may not be read or written, is no file, or is shown nobody: one line, exit 2, no wait, nothing left behind.

Root ignores the modes of files, so its power to do so is laid down meanwhile (`as_others`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.cli.demo import _check_own
from shopwindow.service.auth import read_keys

_GET, _SET, _OVERRIDE = 125, 126, 0b110  # capget, capset on x86-64; CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
COMMANDS = {
    "evaluate": "{x} answers.json",
    "evaluate -": "a.run {x}",
    "evaluate --pools": "a.run answers.json --pools {x}",
    "evaluate --against": "a.run answers.json --against {x}",
    "audit": "--pools {x} --answers answers.json",
    "report": "{x} --answers answers.json --out OUT",
    "fuse": "a.run {x} --out OUT",
    "submit": "{x} --out OUT",
    "prepare": "{x} --out OUT",
    "prepare --products": "--products {x} --out OUT",
    "search": "{x} red",
    "export parquet": "{x} --out OUT",
}


@contextlib.contextmanager
def as_others() -> Iterator[None]:
    """Files have their modes for root too, until the block ends."""
    if os.geteuid() != 0:
        yield
        return
    if os.uname().machine != "x86_64" or sys.platform != "linux":
        pytest.skip("needs capset of x86-64")
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    powers = (ctypes.c_uint32 * 6)()
    assert libc.syscall(_GET, head, powers) == 0
    before = powers[0]
    powers[0] = before & ~_OVERRIDE
    assert libc.syscall(_SET, head, powers) == 0
    try:
        yield
    finally:
        powers[0] = before
        assert libc.syscall(_SET, head, powers) == 0


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.run").write_text("1 Q0 7 1 0.5 a\n1 Q0 8 2 0.4 a\n")
    Path("answers.json").write_text('{"1": [7]}')
    Path("products.csv").write_text("id,title,photo\n7,red mug,7.jpg\n")
    Path("closed").mkdir()
    for name in ("unreadable", "closed/file"):
        Path(name).write_text("1 Q0 7 1 0.5 a\n")
    Path("unreadable").chmod(0)
    Path("closed").chmod(0)
    Path("b.run").write_text("1 Q0 7 1 0.5 a\n1 Q0 8 2 0.4 a\n")
    Path("pools").write_text("query_id\tproduct_id\n1\t7\n1\t8\n")
    Path("folder").mkdir()
    Path("folder", "mine").write_text("of somebody else")
    Path("locked").mkdir(mode=0o555)
    os.mkfifo("pipe")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr()
    assert left.value.code == 2, said.err
    (line,) = said.err.splitlines()
    assert line.startswith("shopwindow: ")
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_an_input_that_cannot_be_read_is_one_line(
    things: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopwindow.files.Pipe.__init__.__kwdefaults__", {"seconds": 0.1})
    verb = [word for word in command.split() if not word.startswith("-")]
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as end:
        end.bind("socket")
        for name in ("unreadable", "closed/file", "folder", "pipe", "socket"):
            words = COMMANDS[command].replace("{x}", name).replace("OUT", "out").split()
            with as_others():
                line = refused(capsys, [*verb, *words])
            assert name in line or (verb, name) == (["evaluate"], "folder"), (
                line
            )  # that is taken for an index
            assert not Path("out").exists(), name


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("fuse", "a.run b.run --out OUT"),
        ("audit", "--pools pools --answers answers.json --html OUT"),
        ("key", "me --keys OUT"),
        ("demo", "--out OUT --products 60"),
        ("draw", "OUT --products 60"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(
    things: Path, verb: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("locked/out", "a.run/out", "folder", "pipe", "/dev/full", "closed/out"):
        with as_others():
            line = refused(capsys, [verb, *words.replace("OUT", out).split()])
        assert out.split("/")[0] in line, line
    assert [path.name for path in Path("folder").iterdir()] == ["mine"]
    assert not list(Path("locked").iterdir())


PRINTED = [
    "--help",
    "evaluate --help",
    "evaluate a.run answers.json",
    "evaluate a.run answers.json --json",
    "audit --pools pools --answers answers.json",
    "fuse a.run b.run --out -",
    "fuse a.run b.run --out OUT",
    "key me --keys OUT",
]


@contextlib.contextmanager
def printing_into(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output is this descriptor until the block ends."""
    with os.fdopen(descriptor, "w") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        yield


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", PRINTED)
def test_a_full_disk_behind_standard_output_is_one_line(
    things: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with printing_into(full, monkeypatch), pytest.raises(SystemExit) as left:
        main(command.replace("OUT", "out").split())
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "shopwindow: standard output: cannot be written: No space left on device\n"
    )


@pytest.mark.parametrize("command", PRINTED)
def test_a_reader_that_went_away_ends_a_command_without_a_word(
    things: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    with printing_into(write, monkeypatch), pytest.raises(SystemExit) as left:
        main(command.replace("OUT", "out").split())
    assert (left.value.code, capsys.readouterr().err) == (1, "")


def test_long_names_and_control_characters_are_shown_short_and_escaped(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x" * 5000, "a/" * 3000 + "b", "red\x1b[31m\x07\r", "a\nb", "s p a c e " * 900):
        line = refused(capsys, ["evaluate", name, "answers.json"])
        assert len(line) < 2100
        assert line.isprintable()
    assert "red\\x1b[31m\\x07\\r: no such file or index" in refused(
        capsys, ["evaluate", "red\x1b[31m\x07\r", "x"]
    )
    assert len(refused(capsys, ["y" * 5000])) < 500


def test_two_keys_made_at_once_by_two_commands_are_both_kept(things: Path) -> None:
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "shopwindow", "key", "--keys", "keys.txt"]
    makers = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("ann", "bob")
    ]
    keys = [maker.communicate(timeout=120)[0].split()[-1] for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0]
    ring = read_keys("keys.txt")
    assert ring is not None
    assert [ring.name_of(key) for key in keys] == ["ann", "bob"]


def test_a_demo_replaces_its_own_folder_only(things: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("own")
    for folder, marker in (("drawn", "drawn.json"), ("shop", "shop.json")):
        (own / folder).mkdir(parents=True)
        (own / folder / marker).write_text('{"format": "shopwindow ..."}')
    for name in ("contact-sheet.png", ".drawn.lock"):
        (own / name).write_text("")
    _check_own(own)
    _check_own(Path("new"))
    (own / "notes.txt").write_text("mine")
    assert refused(capsys, ["demo", "--out", "own"]).endswith(
        "own: holds other files (notes.txt); give another name or an empty folder"
    )
    (own / "notes.txt").unlink()
    (own / "shop" / "shop.json").unlink()
    (own / "shop" / "photo.jpg").write_text("mine")
    assert "shop: exists and holds other files" in refused(capsys, ["demo", "--out", "own"])
    Path("sheet").mkdir()
    Path("sheet", "contact-sheet.png").write_text("mine")
    assert "holds other files (contact-sheet.png)" in refused(capsys, ["demo", "--out", "sheet"])
