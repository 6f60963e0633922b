"""How is what is read or written once kept from filling the page cache?

A competition file is larger than the memory: each page of it that stays drives out another one, and to find a place for
it costs more time than to read it. Linux from 6.14 on drops such pages itself (RWF_DONTCACHE; ext4, xfs, btrfs);
those that lay in the cache before stay. Where that is not known, the same is read and written as ever.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_DONT_CACHE: Final = 0x80
"""RWF_DONTCACHE of linux/fs.h, which Python's `os` does not name."""
_NOT_KNOWN: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_COLLECTED_BYTES: Final = 2**20


def read_once(file: int, memory: memoryview, place: int) -> int:
    """Fills memory with the bytes from a place of an open file; gives how many, 0 at its end."""
    return _past_the_cache(lambda flags: os.preadv(file, [memory], place, flags))


class WrittenOnce(io.RawIOBase):
    """A new file that is written from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._place = 0
        self._collected = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """All of the bytes are taken; few are kept until there are more."""
        view = memoryview(data).cast("B")
        if len(self._collected) + len(view) < _COLLECTED_BYTES:
            self._collected += view
        else:
            self._write_all([memoryview(bytes(self._collected)), view])
            self._collected.clear()
        return len(view)

    def close(self) -> None:
        """Writes what was collected. Closed also where that fails."""
        if self.closed:
            return
        try:
            self._write_all([memoryview(bytes(self._collected))])
        finally:
            self._collected.clear()
            os.close(self._file)
            super().close()

    def _write_all(self, views: Sequence[memoryview]) -> None:
        left = [view for view in views if len(view)]
        while left:
            done = _write_some(self._file, left, self._place)
            self._place += done
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if left:
                left[0] = left[0][done:]


def _write_some(file: int, views: list[memoryview], place: int) -> int:
    return _past_the_cache(lambda flags: os.pwritev(file, views, place, flags))


def _past_the_cache(call: Callable[[int], int]) -> int:
    try:
        return call(_DONT_CACHE)
    except NotImplementedError:  # a Python built for a C library without flags
        pass
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
    return call(0)
