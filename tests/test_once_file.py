"""Is what passes by the page cache what would be there without, and where the system knows no such thing?"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from shopwindow.files import OnceFile, open_once


@pytest.fixture(params=["as the system can", "not known to the system", "not known to Python"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "as the system can":
        return

    def refusing(file: int, views: Any, place: int, flags: int) -> int:
        if request.param == "not known to Python":
            raise NotImplementedError("preadv2: unavailable on this platform")
        raise OSError(errno.EOPNOTSUPP, "not known")

    for name in ("preadv", "pwritev"):
        monkeypatch.setattr(os, name, refusing)


@pytest.mark.usefixtures("system")
def test_what_is_written_is_read(tmp_path: Path) -> None:
    rng = random.Random(0)
    pieces = [rng.randbytes(size) for size in (0, 5, 9 * 2**20 + 1, 7, 2**20, 2**19, 2**19, 1)]
    with open_once(tmp_path / "a", "wb") as file:
        for piece in pieces:
            assert file.write(piece) == len(piece)
    data = b"".join(pieces)
    assert (tmp_path / "a").read_bytes() == data
    with open_once(tmp_path / "a") as file:
        assert file.readline() == data[: data.index(b"\n") + 1]
        file.seek(1000)
        assert file.read() == data[1000:]
        assert file.read(1) == b""


@pytest.mark.usefixtures("system")
def test_an_error_of_the_file_is_raised(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with OnceFile(tmp_path / "a", "rb") as file:
        os.close(file.fileno())
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.readinto(bytearray(9))
        os.open(tmp_path / "a", os.O_RDONLY)  # what the block closes


def test_half_written_pieces_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def half(file: int, views: list[Any], place: int, flags: int = 0) -> int:
        return whole(file, [views[0][: len(views[0]) // 2 + 1]], place)

    monkeypatch.setattr(os, "pwritev", half)
    data = random.Random(0).randbytes(9 * 2**20)
    with open_once(tmp_path / "a", "wb") as file:
        file.write(b"head")
        file.write(data)
        file.write(b"tail")
    assert (tmp_path / "a").read_bytes() == b"head" + data + b"tail"
