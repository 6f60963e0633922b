"""How do we read files that may be broken, and write files that are never half there?

The lowest room: everything above reads text through `open_text`, reports wrong data as `DataError`,
and writes through `whole_file` or `whole_directory`. It knows no format.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import gzip
import io
import json
import os
import re
import select
import shutil
import stat
import sys
import time
import types
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TextIO, cast

PHOTO_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".webp")
"""Of photos in a folder, each named after its product's id."""
STANDARD_STREAM: Final = "-"
_READ_BYTES: Final = 2**18
_ONCE_BYTES: Final = 4 * 2**20
_UNPACKED_BYTES: Final = 64 * 2**20
_UNPACKED_TIMES: Final = 200
_LONGEST_LINE: Final = 2**30
_LEFT_SECONDS: Final = 600
_WRITER_SECONDS: Final = 10.0
"""How long a pipe may wait for somebody who writes into it."""
_DONT_CACHE: Final = 0x80
"""RWF_DONTCACHE of linux/fs.h, which Python's `os` does not name."""
_UNKNOWN_FLAG: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_CANNOT_LOCK: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_CANNOT_WRITE: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.ESTALE,
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.EBUSY,
        errno.ELOOP,
        errno.ENOLCK,
    }
)


class DataError(Exception):
    """Wrong data from outside: says what is wrong and where. The command line prints it and exits 2.

    >>> str(DataError("boxes: 3 rows, features: 4", path="shop/train.tsv", line=17, field="boxes"))
    'shop/train.tsv line 17, boxes: boxes: 3 rows, features: 4'
    >>> str(DataError("no such file", path="a.tsv"))
    'a.tsv: no such file'
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = None if path is None else os.fspath(path)
        self.line = line
        self.field = field
        place = self.path or ""
        if line is not None:
            place += f" line {line}"
        if field is not None:
            place += f", {field}"
        super().__init__(f"{place.strip(' ,')}: {problem}" if place else problem)


class BusyError(DataError):
    """Another process is writing the same file or directory."""


def is_plain_file(path: str | os.PathLike[str]) -> bool:
    """Whether it names a file of known size; `-` does not, nor what the system takes for no name."""
    name = os.fspath(path)
    try:
        return name != STANDARD_STREAM and Path(name).is_file()
    except (OSError, ValueError):
        return False


class OnceFile(io.FileIO):
    """A plain file that is read or written once: what passes does not stay in the page cache, where it costs time.

    Linux from 6.14 on can do so (ext4, xfs, btrfs). Elsewhere it is a file as any other.
    """

    _keeps_cache_free = hasattr(os, "preadv")

    def readinto(self, buffer: Any, /) -> int | None:
        """Reads what comes next into a buffer."""
        done = self._past_cache("preadv", buffer)
        return super().readinto(buffer) if done is None else done

    def write(self, data: Any, /) -> int:
        """Writes the first bytes of the data, as many as the system takes at once."""
        done = self._past_cache("pwritev", data)
        return super().write(data) if done is None else done

    def _past_cache(self, call: str, buffer: Any) -> int | None:
        """How many bytes passed; None where the system or the file system cannot."""
        if not self._keeps_cache_free:
            return None
        place = self.tell()
        try:
            done: int = getattr(os, call)(self.fileno(), [buffer], place, _DONT_CACHE)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _UNKNOWN_FLAG:
                raise
            self._keeps_cache_free = False
            return None
        self.seek(place + done)
        return done


class Unpacked(io.RawIOBase):
    """What a gzip file holds, read once. One that unpacks to far more than text does is a bomb.

    Raises: DataError beyond 64 MB, where it has unpacked to more than 200 times its size.
    """

    def __init__(self, packed: io.BufferedIOBase, path: str) -> None:
        self.on_disk = packed
        self._packed = _Counted(packed)
        self._file = gzip.GzipFile(fileobj=cast(Any, self._packed), mode="rb")
        self._path = path
        self._size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Unpacks what comes next into a buffer."""
        data = self._file.read(min(len(buffer), _READ_BYTES))
        buffer[: len(data)] = data
        self._size += len(data)
        if self._size > _UNPACKED_BYTES and self._size > _UNPACKED_TIMES * self._packed.size:
            problem = (
                f"unpacks to more than {_UNPACKED_TIMES} times its size: a gzip bomb; unpack it first if not"
            )
            raise DataError(problem, path=self._path)
        return len(data)


class Pipe(io.FileIO):
    """A named pipe to read. What nobody writes into is an error, where `open` would wait for ever.

    Raises: DataError where no writer came within some seconds.
    """

    def __init__(self, path: str, *, seconds: float = _WRITER_SECONDS) -> None:
        super().__init__(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
        self._path = path
        self._until = time.monotonic() + seconds

    def readinto(self, buffer: Any, /) -> int | None:
        """Reads what comes next into a buffer."""
        while not os.get_blocking(self.fileno()):
            count = super().readinto(buffer)
            if count == 0 and not self._had_writer():
                if time.monotonic() > self._until:
                    raise DataError("is a pipe that nobody writes into", path=self._path)
                time.sleep(0.05)
                continue
            os.set_blocking(self.fileno(), True)
            if count is not None:  # None: a writer is there and has written nothing yet
                return count
        return super().readinto(buffer)

    def _had_writer(self) -> bool:
        """Whether one came and is gone."""
        watch = select.poll()
        watch.register(self.fileno(), 0)
        return bool(watch.poll(0))


def is_unpacked(file: io.BufferedIOBase) -> bool:
    """Whether a file of `open_bytes` is unpacked while it is read."""
    return isinstance(getattr(file, "raw", None), Unpacked)


class _Counted:
    """A file whose bytes are counted as they are read: `size`."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.size += len(data)
        return data


@contextlib.contextmanager
def open_once(
    path: str | os.PathLike[str], mode: Literal["rb", "wb"] = "rb", *, buffer_bytes: int = _ONCE_BYTES
) -> Iterator[Any]:
    """A plain file, buffered, to be read or written once (`OnceFile`)."""
    raw = OnceFile(os.fspath(path), mode)
    kind = io.BufferedReader if mode == "rb" else io.BufferedWriter
    with kind(raw, buffer_bytes) as file:
        yield file


@contextlib.contextmanager
def open_bytes(path: str | os.PathLike[str], *, once: bool = False) -> Iterator[io.BufferedIOBase]:
    """The bytes of a file, unpacked when gzipped (by its first bytes, not its name); `-` is standard input.

    With `once` a plain file is read as `OnceFile` has it.

    Raises: DataError as `reading`.
    """
    name = os.fspath(path)
    with reading(name), contextlib.ExitStack() as stack:
        if name == STANDARD_STREAM:
            raw = sys.stdin.buffer
        elif once and is_plain_file(name):
            raw = stack.enter_context(open_once(name))
        elif Path(name).is_fifo():
            raw = stack.enter_context(io.BufferedReader(Pipe(name), _READ_BYTES))
        else:
            raw = stack.enter_context(Path(name).open("rb", buffering=_READ_BYTES))
        file = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var]
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        yield io.BufferedReader(Unpacked(file, name), _READ_BYTES) if packed else file


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Only read the file inside the block: an OSError of anything else there would be told as one of this file.

    Raises: DataError where the file is missing, a directory, unreadable, or broken gzip (also while reading).
    """
    name = os.fspath(path)
    shown = "standard input" if name == STANDARD_STREAM else name
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"broken gzip: {error}", path=shown) from error
    except FileNotFoundError as error:
        raise DataError("no such file", path=shown) from error
    except IsADirectoryError as error:
        raise DataError("is a directory, a file was wanted", path=shown) from error
    except PermissionError as error:
        raise DataError("may not be read", path=shown) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=shown) from error


def text_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 text; BOM dropped, CRLF accepted, `-` and gzip read.

    Raises: DataError naming the line that is not UTF-8 or holds a NUL, and as `open_bytes`.
    """
    shown = "standard input" if os.fspath(path) == STANDARD_STREAM else os.fspath(path)
    with open_bytes(path) as file:
        start = file.peek(1) if isinstance(file, io.BufferedReader) and not is_unpacked(file) else b""
        if b"\0" in start and b"\n" not in start:  # /dev/zero has no end
            raise DataError("holds a NUL character: not a text file", path=shown, line=1)
        for number, raw in enumerate(iter(functools.partial(file.readline, _LONGEST_LINE), b""), start=1):
            if len(raw) == _LONGEST_LINE:
                raise DataError(f"longer than {_LONGEST_LINE:,} bytes: no text", path=shown, line=number)
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                raw = raw[3:]
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"not UTF-8: {error.reason} at byte {error.start}", path=shown, line=number
                ) from error
            if "\x00" in line:
                raise DataError("holds a NUL character: not a text file", path=shown, line=number)
            yield number, line.rstrip("\r\n")


def read_text(path: str | os.PathLike[str]) -> str:
    """The whole of a UTF-8 text, read as `text_lines` reads it."""
    return "\n".join(line for _, line in text_lines(path))


def read_card(path: str | os.PathLike[str], *, format: str, made_by: str) -> dict[str, Any]:
    """What a marker says: a JSON object of a format such as `shopwindow bundle 3`.

    Raises: DataError for broken JSON, or another format; it names the command that makes the directory again. Also
    where the directory holds a pipe or a device, which would be waited for without end.
    """
    check_ordinary(*_entries(Path(path).parent))
    card = parse_json(read_text(path), path)
    written = card.get("format") if isinstance(card, dict) else None
    if written != format:
        raise DataError(
            f"not of the format {format!r} but {repr(written)[:80]}; make it again with `shopwindow {made_by}`",
            path=path,
        )
    return dict(card)


def check_ordinary(*paths: str | os.PathLike[str]) -> None:
    """Raises: DataError for the first path that is a pipe, a socket or a device: it has no size and no end."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # whoever opens it says what is wrong with it
            mode = Path(path).stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise DataError("is a pipe or a device, a plain file was wanted", path=path)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError):
        return []


Kind = type | types.UnionType | types.GenericAlias
"""Of a field of a card: a type, several, or a list of values of a type."""


def check_fields(card: Any, kinds: Mapping[str, Kind], path: str | os.PathLike[str]) -> None:
    """Raises: DataError naming the first field that is missing or of another kind (a truth value is no int)."""
    for name, kind in kinds.items():
        if not isinstance(card, dict) or name not in card or not _is_of(card[name], kind):
            raise DataError("missing or of another kind", path=path, field=name)


def _is_of(value: Any, kind: Kind) -> bool:
    if isinstance(kind, types.GenericAlias):
        return isinstance(value, list) and all(_is_of(one, kind.__args__[0]) for one in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_whole(
    card: Any, names: Iterable[str], path: str | os.PathLike[str], *, least: int = 0, most: int = 2**31 - 1
) -> None:
    """Raises: DataError naming the first field that is missing or no whole number from `least` to `most`."""
    for name in names:
        check_fields(card, {name: int}, path)
        if not least <= card[name] <= most:
            problem = f"{str(card[name])[:40]}, a whole number from {least} to {most:,} was wanted"
            raise DataError(problem, path=path, field=name)


def scores_of(card: Any, path: str | os.PathLike[str]) -> dict[str, float]:
    """A card's `scores`, numbers by name. Raises: DataError where they are something else."""
    check_fields(card, {"scores": dict}, path)
    for name in card["scores"]:
        check_fields(card["scores"], {name: int | float}, path)
    try:
        return {name: float(value) for name, value in card["scores"].items()}
    except OverflowError as error:  # a whole number of hundreds of digits
        raise DataError("holds a number too large", path=path, field="scores") from error


def parse_json(
    text: str, path: str | os.PathLike[str], *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """The value of a JSON text; `pairs` makes an object of its pairs.

    Raises: DataError naming file and line, also for nesting and numbers beyond what Python reads.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise DataError(f"broken JSON: {error.msg}", path=path, line=error.lineno) from error
    except ValueError as error:
        raise DataError(f"broken JSON: {error}", path=path) from error
    except RecursionError as error:
        raise DataError("broken JSON: nested too deep", path=path) from error


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to; it becomes `path` at once when the block ends, and vanishes when the block fails.

    The file is written beside its goal and renamed over it: a reader sees the old file or the new one.

    Raises: DataError when `path` is a directory, may not be written, or the disk is full.
    """
    goal = check_writable(path)
    partial = goal.with_name(f".{goal.name}.{os.getpid()}.partial")
    _clear_left(goal)
    try:
        with _write_errors_as_data_errors(path):
            yield partial
            with partial.open("r+b") as written:
                os.fsync(written.fileno())
            partial.replace(goal)
    finally:
        partial.unlink(missing_ok=True)


def _clear_left(goal: Path) -> None:
    """Removes what killed writers of the same file left: their process is gone, and the file is ten minutes old."""
    pattern = re.compile(re.escape(f".{goal.name}.") + r"([0-9]{1,9})\.partial")
    with contextlib.suppress(OSError):
        for path in goal.parent.iterdir():
            match = pattern.fullmatch(path.name)
            if match and not _runs(int(match[1])) and time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Where `whole_file` would write, once it is sure that it may: to be asked before long work.

    Raises: DataError when `path` is a directory, a device or a pipe, or its folder may not be written.
    """
    goal = real_path(path)
    with _write_errors_as_data_errors(path):
        _make_parent(goal)
        if goal.is_dir():
            raise DataError("is a directory, a file was wanted", path=path)
        if goal.exists() and not goal.is_file():
            raise DataError("is no ordinary file and would be replaced; - is standard output", path=path)
    return goal


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A UTF-8 text to write to, whole or not at all; gzipped when the name ends in `.gz`; `-` is standard output."""
    name = os.fspath(path)
    if name == STANDARD_STREAM:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="strict")
        yield sys.stdout
        sys.stdout.flush()
        return
    with whole_file(name) as partial:
        try:
            partial.touch()
        except FileNotFoundError as error:  # a folder that takes no new file, as /proc
            raise DataError("cannot be written: its folder takes no new file", path=path) from error
        if name.endswith(".gz"):
            with (
                partial.open("wb") as raw,
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as file,
            ):
                yield file
        else:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                yield file


@contextlib.contextmanager
def whole_directory(path: str | os.PathLike[str], *, marker: str) -> Iterator[Path]:
    """A directory to fill; it becomes `path` at once when the block ends, and vanishes when the block fails.

    What a killed run left beside `path` is cleared first. A directory that already is at `path` is
    replaced only when it is empty or ours: its file `marker` begins with a `"format": "shopwindow ..."`, so
    that nobody's other files are lost.

    Raises: DataError when `path` holds something else, another process is writing it, it may not be
    written, or the disk is full.
    """
    goal = check_replaceable(path, marker=marker)
    partial = goal.with_name(f".{goal.name}.partial")
    with _write_errors_as_data_errors(path), _lock(goal):
        _check_replaceable(goal, marker)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            if not is_ours(partial, marker):
                raise AssertionError(f"a written directory must hold its marker {marker!r} with its format")
            _check_replaceable(goal, marker)
            _put_in_place(partial, goal)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def check_replaceable(path: str | os.PathLike[str], *, marker: str) -> Path:
    """Where `whole_directory` would write, once it is sure that it may: to be asked before long work.

    Raises: DataError as `whole_directory` does.
    """
    goal = real_path(path)
    if Path.cwd().is_relative_to(goal):
        raise DataError("is the current directory, or holds it; give another name", path=goal)
    with _write_errors_as_data_errors(path):
        _make_parent(goal)
        _check_replaceable(goal, marker)
    return goal


def check_apart(
    out: str | os.PathLike[str],
    others: Iterable[str | os.PathLike[str]],
    *,
    field: str,
    replaces: bool = True,
) -> None:
    """Whether an output lies apart from what else a command names, links followed; `-` is apart from everything.

    Raises: DataError naming the field where it is one of the others or lies inside one, for it is lost when that is
    made again; and where it `replaces` a directory that holds one.
    """
    if os.fspath(out) == STANDARD_STREAM:
        return
    goal = real_path(out)
    for name in others:
        other = real_path(name)
        if goal == other:
            raise DataError(f"{out} is the same place as {name}; give another name", field=field)
        if goal.is_relative_to(other):
            problem = f"{out} lies inside {name} and is lost when that is made again; give a place outside"
            raise DataError(problem, field=field)
        if replaces and other.is_relative_to(goal):
            raise DataError(f"{name} lies inside {out}, which is replaced; give another name", field=field)


@contextlib.contextmanager
def alone(path: str | os.PathLike[str], *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Keeps every other process out that asks for the same path, until the block ends or the process dies.

    Raises: DataError when another one is in, and still is after `wait_seconds`.
    """
    goal = real_path(path)
    until = time.monotonic() + wait_seconds
    with _write_errors_as_data_errors(path), contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_lock(goal))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        yield


def real_path(path: str | os.PathLike[str]) -> Path:
    """Where `path` really lies, links followed.

    Raises: DataError for links that lead in a circle, or what the system takes for no name.
    """
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error).partition(" from ")[0]
        raise DataError(
            f"names no file: {problem}", path=repr(path) if "\0" in str(path) else path
        ) from error


@contextlib.contextmanager
def _write_errors_as_data_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise DataError(f"cannot be written: {os.strerror(error.errno)}", path=path) from error


def _make_parent(goal: Path) -> None:
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {goal.parent}: {error.strerror}", path=goal) from error
    except RecursionError as error:
        raise DataError("lies in too many folders that are not there", path=goal) from error
    if not os.access(goal.parent, os.W_OK):
        raise DataError(f"the folder {goal.parent} may not be written", path=goal)


def _check_replaceable(goal: Path, marker: str) -> None:
    if not goal.exists() and not goal.is_symlink():
        return
    if not goal.is_dir():
        raise DataError("exists and is not a directory; give another name", path=goal)
    if not any(goal.iterdir()):
        if not os.access(goal, os.W_OK) or not goal.stat().st_mode & 0o222:
            raise DataError("is an empty folder that may not be written; give another name", path=goal)
    elif not is_ours(goal, marker):
        raise DataError(
            f"exists and holds other files (no {marker} of shopwindow's); give another name or an empty folder",
            path=goal,
        )


def is_ours(folder: Path, marker: str) -> bool:
    """Whether shopwindow wrote the folder: its marker says so in its first lines."""
    try:
        with (folder / marker).open("rb") as file:
            return b'"format": "shopwindow' in file.read(1024)
    except OSError:
        return False


@contextlib.contextmanager
def _lock(goal: Path) -> Iterator[None]:
    """Keeps a second writer of the same goal out; the kernel frees it whenever the process ends.

    Raises: DataError where another process holds it, or neither the system nor the file system can lock.
    """
    path = goal.with_name(f".{goal.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("w"))
        except FileNotFoundError as error:  # as /proc
            raise DataError("cannot be written: its folder takes no new file", path=goal) from error
        try:
            _lock_file(file, goal)
            # Between our open and our lock its holder may have ended and removed the file: no lock then.
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError) as error:
            raise BusyError("another process is writing it", path=goal) from error
        except (DataError, OSError):  # nobody can lock it: no lock
            path.unlink(missing_ok=True)
            raise
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock_file(file: TextIO, goal: Path) -> None:
    """Raises: BlockingIOError where another process has locked it; DataError where it cannot be locked."""
    try:
        import fcntl
    except ImportError as error:
        raise DataError(
            f"cannot be locked on {sys.platform}: Linux or macOS is needed (on Windows: WSL)", path=goal
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        raise DataError(
            f"its file system cannot lock files ({error.strerror}); give a folder on another one", path=goal
        ) from error


def _put_in_place(partial: Path, goal: Path) -> None:
    if not goal.exists():
        partial.rename(goal)
    elif not _exchange(partial, goal):
        aside = goal.with_name(f".{goal.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        goal.rename(aside)
        partial.rename(goal)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two directories in one step of the file system; False where the system cannot (Linux can)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    failed = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if failed and ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(other))
    return not failed


def check_photo_folder(folder: str | os.PathLike[str]) -> None:
    """Raises: DataError for no folder, or one that may not be read."""
    if not Path(folder).is_dir():
        raise DataError("no such folder of photos", path=folder)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError("may not be read", path=folder)


def find_photo(folder: str | Path | None, product_id: int | str) -> Path | None:
    """The photo of a product in a folder or its subfolders: PRODUCT_ID.jpg, .jpeg, .png or .webp, in any case.

    None where there is none, or where the id could name a file elsewhere.
    """
    if folder is None or any(letter in str(product_id) for letter in "/\\\0"):
        return None
    # Asked for every hit of every search: pathlib would take a fifth of that time.
    names = (f"{folder}{os.sep}{product_id}{ending}" for ending in PHOTO_ENDINGS)
    found = next((Path(name) for name in names if os.path.isfile(name)), None)  # noqa: PTH113 - as said
    if found is not None or not os.path.isdir(folder):  # noqa: PTH112 - as said
        return found
    return _other_photos(os.fspath(folder), os.stat(folder).st_mtime_ns).get(str(product_id))  # noqa: PTH116


@functools.lru_cache(maxsize=8)
def _other_photos(folder: str, _: int) -> dict[str, Path]:
    """The photos in a folder by product id that lie in subfolders or have an ending in capitals; read once."""
    photos: dict[str, Path] = {}
    for place, below, names in os.walk(folder):
        below.sort()
        for name in sorted(names):
            stem, ending = os.path.splitext(name)  # noqa: PTH122 - a folder may hold millions
            if ending.lower() in PHOTO_ENDINGS and (place != folder or ending not in PHOTO_ENDINGS):
                photos.setdefault(stem, Path(place, name))
    return photos
