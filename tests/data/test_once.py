"""Is what is read and written past the page cache what would be without, and where the system knows no such thing?"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from shopwindow.data.once import WrittenOnce, read_once


@pytest.fixture(params=["as the system can", "not known to the system", "not known to Python"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "as the system can":
        return
    for name in ("preadv", "pwritev"):
        plain = getattr(os, name)

        def refusing(file: int, views: Any, place: int, flags: int = 0, plain: Any = plain) -> int:
            if flags:
                if request.param == "not known to Python":
                    raise NotImplementedError("preadv2: unavailable on this platform")
                raise OSError(errno.EOPNOTSUPP, "not known")
            done: int = plain(file, views, place)
            return done

        monkeypatch.setattr(os, name, refusing)


@pytest.mark.usefixtures("system")
def test_what_is_written_is_read(tmp_path: Path) -> None:
    rng = random.Random(0)
    pieces = [rng.randbytes(size) for size in (0, 5, 3 * 2**20 + 1, 7, 2**20, 2**19, 2**19, 2**19, 1)]
    with WrittenOnce(tmp_path / "a") as file:
        for piece in pieces:
            assert file.write(piece) == len(piece)
    data = b"".join(pieces)
    assert (tmp_path / "a").read_bytes() == data
    with (tmp_path / "a").open("rb") as file:
        memory = memoryview(bytearray(len(data)))
        done = read_once(file.fileno(), memory[1000:], 1000)
        assert memory[1000 : 1000 + done] == data[1000 : 1000 + done]
        assert done > 0
        assert read_once(file.fileno(), memory, len(data)) == 0


@pytest.mark.usefixtures("system")
def test_an_error_is_not_taken_for_a_system_that_does_not_know_it(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (tmp_path / "a").open("wb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        read_once(file.fileno(), memoryview(bytearray(9)), 0)


@pytest.mark.usefixtures("system")
def test_half_written_pieces_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def half(file: int, views: list[memoryview], place: int, flags: int = 0) -> int:
        return whole(file, [views[0][: len(views[0]) // 2 + 1]], place, flags)

    monkeypatch.setattr(os, "pwritev", half)
    data = random.Random(0).randbytes(3 * 2**20)
    with WrittenOnce(tmp_path / "a") as file:
        file.write(b"head")
        file.write(data)
        file.write(b"tail")
    assert (tmp_path / "a").read_bytes() == b"head" + data + b"tail"
