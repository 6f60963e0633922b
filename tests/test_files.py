"""Are files and directories written whole or not at all, and is every way to fail told in one line?"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shopwindow.data.tables import open_table
from shopwindow.files import (
    DataError,
    Pipe,
    alone,
    check_replaceable,
    find_photo,
    open_whole,
    parse_json,
    read_card,
    reading,
    real_path,
    text_lines,
    whole_directory,
    whole_file,
)
from shopwindow.service.auth import add_key, read_keys

MARKER = "manifest"


def marked(text: str) -> str:
    """What a marker of ours holds."""
    return f'{{"format": "shopwindow {text}"}}'


def fill(path: Path, text: str = "new") -> None:
    with whole_directory(path, marker=MARKER) as folder:
        (folder / MARKER).write_text(marked(text))


def test_directory_appears_whole(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "a/b", marker=MARKER) as folder:
        (folder / MARKER).write_text(marked("new"))
        assert not (tmp_path / "a/b").exists()
    assert (tmp_path / "a/b" / MARKER).read_text() == marked("new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), SystemExit(1)])
def test_failed_directory_leaves_the_old_one_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    fill(tmp_path / "a", "old")
    with pytest.raises(type(error)), whole_directory(tmp_path / "a", marker=MARKER) as folder:  # noqa: PT012
        (folder / MARKER).write_text("half")
        raise error
    assert (tmp_path / "a" / MARKER).read_text() == marked("old")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_older_and_empty_directories_are_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "a", "old")
    (tmp_path / "a" / "more").touch()
    (tmp_path / "empty").mkdir()
    for name in ("a", "empty"):
        fill(tmp_path / name)
        assert [path.name for path in (tmp_path / name).iterdir()] == [MARKER]
        assert (tmp_path / name / MARKER).read_text() == marked("new")


def test_foreign_directory_or_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="holds other files"):
        fill(tmp_path / "theirs")
    with pytest.raises(DataError, match="exists and is not a directory"):
        fill(tmp_path / "file")
    with pytest.raises(DataError, match="cannot make the folder"):
        fill(tmp_path / "file" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "theirs"]


def test_a_directory_with_a_marker_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / MARKER).write_text('{"format": "chrome extension"}')
    with pytest.raises(DataError, match="holds other files"):
        fill(tmp_path / "theirs")
    assert (tmp_path / "theirs" / MARKER).read_text() == '{"format": "chrome extension"}'


def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no ordinary file"), open_whole(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_directory_filled_by_others_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(DataError, match="holds other files"),
        whole_directory(tmp_path / "a", marker=MARKER) as folder,
    ):
        (folder / MARKER).write_text(marked("new"))
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "theirs").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["theirs"]


def test_link_to_a_directory_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for target in ("disk/there", "disk/not_yet"):
        link = tmp_path / target.replace("/", "_")
        link.symlink_to(tmp_path / target)
    fill(tmp_path / "disk/there", "old")
    for name in ("there", "not_yet"):
        for text in ("first", "second"):
            fill(tmp_path / f"disk_{name}", text)
            assert (tmp_path / f"disk_{name}").is_symlink()
            assert (tmp_path / "disk" / name / MARKER).read_text() == marked(text)
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["not_yet", "there"]


def test_current_directory_and_those_that_hold_it_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for goal in (Path(), Path(".."), tmp_path / "here", Path("/")):
        with pytest.raises(DataError, match="is the current directory, or holds it"):
            fill(goal)
    fill(tmp_path / "here" / "below")
    fill(Path("../beside"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "here"]


def test_second_writer_is_refused_and_the_first_ends_well(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "a", marker=MARKER) as folder:
        (folder / MARKER).write_text(marked("first"))
        with pytest.raises(DataError, match="another process is writing it"):
            fill(tmp_path / "a", "second")
    assert (tmp_path / "a" / MARKER).read_text() == marked("first")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_lock_whose_file_was_removed_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink_then_lock(file: object, how: int) -> None:
        (tmp_path / ".a.lock").unlink()  # its holder ended between our open and our lock

    monkeypatch.setattr("fcntl.flock", unlink_then_lock)
    with pytest.raises(DataError, match="another process is writing it"):
        fill(tmp_path / "a")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(
        DataError, match=r"a: its file system cannot lock files \(.*\); give a folder on another"
    ):
        fill(tmp_path / "a")
    with pytest.raises(DataError, match="cannot lock files"), alone(tmp_path / "a"):
        pass
    assert not (tmp_path / "a").exists()


WITHOUT_LINUX = """
import ctypes, os, sys
class Library:
    def __init__(self, *names, **options):
        pass
sys.modules["fcntl"] = None
for name in ("preadv", "pwritev", "sched_getaffinity"):
    delattr(os, name)
import shopwindow.cli
import shopwindow.data.dataset, shopwindow.data.prepare
from shopwindow.files import DataError, _put_in_place, whole_directory, whole_file
from pathlib import Path
ctypes.CDLL = Library
folder = Path(sys.argv[1])
with whole_file(folder / "file") as partial:
    partial.write_text("whole")
for name, text in (("old", "before"), ("new", "after")):
    (folder / name).mkdir()
    (folder / name / "file").write_text(text)
_put_in_place(folder / "new", folder / "old")
print((folder / "file").read_text(), (folder / "old" / "file").read_text(), (folder / "new").exists())
try:
    with whole_directory(folder / "a", marker="m"):
        pass
except DataError as error:
    print(error)
"""


def test_without_what_only_linux_has_all_is_imported_and_a_verb_says_what_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LINUX, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert first == "whole after False"
    assert (
        second == f"{tmp_path / 'a'}: cannot be locked on linux: Linux or macOS is needed (on Windows: WSL)"
    )


def test_many_writers_at_once_leave_one_whole_directory(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from shopwindow.files import DataError, whole_directory\n"
        "for turn in range(300):\n"
        "    try:\n"
        "        with whole_directory(sys.argv[1], marker='manifest') as folder:\n"
        "            for name in ('manifest', 'b', 'c'):\n"
        '                (folder / name).write_text(\'"format": "shopwindow \' + sys.argv[2] + str(turn))\n'
        "            assert len(list(folder.iterdir())) == 3\n"
        "            assert len({file.read_text() for file in folder.iterdir()}) == 1\n"
        "    except DataError as error:\n"
        "        assert 'another process' in str(error), error\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a"), name], stderr=subprocess.PIPE)
        for name in "xyz"
    ]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [(b"", 0)] * 3
    assert len({file.read_text() for file in (tmp_path / "a").iterdir()}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from shopwindow.files import whole_directory\n"
        "with whole_directory(sys.argv[1], marker='manifest') as folder:\n"
        "    (folder / 'half').touch()\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")]) as writer:
        while not (tmp_path / ".a.partial" / "half").exists():
            time.sleep(0.01)
        with pytest.raises(DataError, match="another process is writing it"):
            fill(tmp_path / "a")
        writer.kill()
    assert not (tmp_path / "a").exists()
    fill(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == [MARKER]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO])
def test_full_disk_is_told_as_data_error(tmp_path: Path, number: int) -> None:
    problem = f"cannot be written: {os.strerror(number)}"
    with pytest.raises(DataError, match=problem), whole_file(tmp_path / "a"):
        raise OSError(number, "some words")
    with pytest.raises(DataError, match=problem), whole_directory(tmp_path / "b", marker=MARKER):
        raise OSError(number, "some words")
    assert not list(tmp_path.iterdir())


def test_other_os_errors_are_not_dressed_up(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), whole_file(tmp_path / "a"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_file_appears_whole_and_goes_through_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with open_whole(tmp_path / "link") as file:
        file.write("a\n")
        assert not (tmp_path / "target").exists()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "a\n"
    with pytest.raises(ZeroDivisionError), open_whole(tmp_path / "target") as file:  # noqa: PT012
        file.write("b" * 100_000)
        raise ZeroDivisionError
    assert (tmp_path / "target").read_text() == "a\n"
    with pytest.raises(DataError, match="is a directory"), open_whole(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def test_gzip_is_written_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with open_whole(tmp_path / name) as file:
            file.write("é\n")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert list(text_lines(tmp_path / "a.gz")) == [(1, "é")]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a\nb\xff\n", r"line 2: not UTF-8: invalid start byte at byte 1"),
        (b"a\nb\x00\n", r"line 2: holds a NUL character"),
        (gzip.compress(b"a\n" * 1000, mtime=0)[:-9], "broken gzip"),
        (gzip.compress(b"a\n" * 1000, mtime=0)[:12] + b"\xff" * 20, "broken gzip"),
    ],
    ids=["not UTF-8", "NUL", "gzip cut", "gzip broken"],
)
def test_text_that_is_none_is_told_by_line(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError, match=problem):
        list(text_lines(tmp_path / "a.txt"))


def test_text_is_read_with_bom_crlf_and_without_final_newline(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\n\xc3\xa9")
    assert list(text_lines(tmp_path / "a.txt")) == [(1, "a"), (2, "é")]
    (tmp_path / "b.txt").write_bytes(b"")
    assert list(text_lines(tmp_path / "b.txt")) == []


def test_a_photo_is_found_in_any_case_and_in_subfolders(tmp_path: Path) -> None:
    (tmp_path / "01" / "b").mkdir(parents=True)
    paths = {"1": "1.jpg", "2": "2.JPG", "3": "3.Jpeg", "4": "01/4.webp", "5": "01/b/5.PNG"}
    for name in (*paths.values(), "6.txt", "01/7"):
        (tmp_path / name).touch()
    for product, name in paths.items():
        assert find_photo(tmp_path, product) == tmp_path / name
        assert find_photo(str(tmp_path), int(product)) == tmp_path / name
    for product in ("6", "7", "8", "01/4", "../1"):
        assert find_photo(tmp_path, product) is None
    assert find_photo(tmp_path / "nowhere", "1") is None


def test_a_gzip_bomb_is_refused_and_what_is_well_packed_is_not(tmp_path: Path) -> None:
    bomb, fine = tmp_path / "bomb", tmp_path / "fine"
    with gzip.open(bomb, "wb") as file:
        for _ in range(100):
            file.write(bytes(2**20))
    with gzip.open(fine, "wb") as file:
        file.write(b"1\t2\t0.5\n" * 2**20)
    with pytest.raises(DataError, match="bomb: unpacks to more than 200 times its size"):
        list(text_lines(bomb))
    assert sum(1 for _ in text_lines(fine)) == 2**20


def test_what_a_killed_writer_of_a_file_left_is_cleared(tmp_path: Path) -> None:
    dead, own, young = (tmp_path / f".a.txt.{number}.partial" for number in (4194304, os.getpid(), 4194303))
    for path in (dead, own, young):
        path.touch()
    for path in (dead, own):
        os.utime(path, (0, 0))
    other = tmp_path / ".b.txt.4194304.partial"
    other.touch()
    os.utime(other, (0, 0))
    with whole_file(tmp_path / "a.txt") as partial:
        assert not dead.exists()
        partial.write_text("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([young.name, other.name, "a.txt"])


def test_a_key_waits_for_a_process_that_adds_one_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopwindow.service.auth._WAIT_SECONDS", 0.1)
    with alone(tmp_path / "keys"), pytest.raises(DataError, match="another process is writing it"):
        add_key(tmp_path / "keys", "shop")
    add_key(tmp_path / "keys", "shop")


def test_keys_made_at_once_by_several_processes_are_all_in_the_file(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from shopwindow.service.auth import add_key, read_keys\n"
        "sys.stdin.read(1)\n"
        "for number in range(10):\n"
        "    add_key(sys.argv[1], f'{sys.argv[2]}-{number}')\n"
    )
    keys = tmp_path / "keys"
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", code, str(keys), name], stdin=subprocess.PIPE)
            )
            for name in ("a", "b")
        ]
        for writer in writers:
            writer.communicate(b"x")
    assert [writer.returncode for writer in writers] == [0, 0]
    names = {name for name, _ in read_keys(keys).hashes}
    assert names == {f"{name}-{number}" for name in "ab" for number in range(10)}
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_a_pipe_that_nobody_writes_into_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (
        io.BufferedReader(Pipe(str(tmp_path / "pipe"), seconds=0.1)) as pipe,
        pytest.raises(DataError, match="pipe that nobody"),
    ):
        pipe.read(10)


def test_a_pipe_is_read_once_to_its_end_however_slow_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with (tmp_path / "pipe").open("wb") as file:
            time.sleep(0.2)
            file.write(b"id,title\n1,bag\n")
            file.flush()
            time.sleep(0.2)
            file.write(b"2,lamp\n")

    writer = threading.Thread(target=write)
    writer.start()
    table = open_table(tmp_path / "pipe")
    assert table.names == ("id", "title")
    assert [cells for _, cells in table.rows] == [["1", "bag"], ["2", "lamp"]]
    writer.join()


def test_a_pipe_or_device_in_a_directory_of_ours_is_told(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"format": "shopwindow toy 1"}')
    read_card(tmp_path / "card.json", format="shopwindow toy 1", made_by="toy")
    (tmp_path / "weights").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="weights: is a pipe or a device, a plain file was wanted"):
        read_card(tmp_path / "card.json", format="shopwindow toy 1", made_by="toy")


def test_an_endless_line_of_nul_is_told_at_once() -> None:
    with pytest.raises(DataError, match="zero line 1: holds a NUL"):
        list(text_lines("/dev/zero"))


def test_a_lost_file_of_a_network_is_told_in_a_line(tmp_path: Path) -> None:
    lost = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    with pytest.raises(DataError, match="a: cannot be read: Stale file handle"), reading(tmp_path / "a"):
        raise lost
    with (
        pytest.raises(DataError, match="b: cannot be written: Stale file handle"),
        whole_file(tmp_path / "b"),
    ):
        raise lost
    with (
        pytest.raises(DataError, match="c: cannot be written: Stale file handle"),
        whole_directory(tmp_path / "c", marker=MARKER),
    ):
        raise lost
    with pytest.raises(DataError, match="d: cannot be written: Stale file handle"), alone(tmp_path / "d"):
        raise lost
    assert not list(tmp_path.iterdir())


def test_nested_and_endless_json_is_named() -> None:
    for text in ("[" * 200_000, "1" + "0" * 5000, '{"a": ', "nope"):
        with pytest.raises(DataError, match=r"x\.json.*broken JSON"):
            parse_json(text, "x.json")


def test_links_that_lead_in_a_circle_are_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"loop: names no file: Symlink loop$"):
        real_path(tmp_path / "loop")
    with pytest.raises(DataError, match="names no file: embedded null byte"):
        real_path("a\0b")


def test_a_line_without_an_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shopwindow.files._LONGEST_LINE", 100)
    (tmp_path / "a").write_text("short\n" + "x" * 200)
    with pytest.raises(DataError, match="a line 2: longer than 100 bytes: no text"):
        list(text_lines(tmp_path / "a"))


def test_folders_that_cannot_be_written_are_told_by_the_name_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^/proc/x: cannot be written: its folder takes no new file"):
        fill(Path("/proc/x"))
    with pytest.raises(DataError, match="too many folders"):
        fill(tmp_path / ("y/" * 1500))
    assert not list(tmp_path.iterdir())


def test_a_key_is_not_written_into_a_file_of_others(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("id,title\n1,bag\n")
    with pytest.raises(DataError, match=r"products\.csv line 1: not a name and a SHA-256"):
        add_key(tmp_path / "products.csv", "shop")
    assert (tmp_path / "products.csv").read_text() == "id,title\n1,bag\n"


def test_an_empty_folder_is_replaced_only_where_it_may_be_written(tmp_path: Path) -> None:
    goal = tmp_path / "out"
    goal.mkdir(mode=0o555)
    with pytest.raises(DataError, match="out: is an empty folder that may not be written"):
        check_replaceable(goal, marker="x.json")
    goal.chmod(0o755)
    assert check_replaceable(goal, marker="x.json") == goal
