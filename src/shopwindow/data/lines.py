"""How are the lines of a file of many gigabytes handed out, with no new memory for each?

Whole blocks are read into one piece of memory that is used again and again, and a line is a view of it: new memory for
every line of 76 KB, and a copy, cost several times the reading. Knows no format of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

BLOCK_BYTES: Final = 5 * 2**20
_PIECE_BYTES: Final = 2**17
"""Read at once past the end of a range, for the rest of its last line."""
_LINE_END: Final = ord("\n")

Read = Callable[[memoryview, int], int]
"""Fills memory with the bytes from a place of the file; gives how many, 0 at its end. Places are asked for in turn, so
that a stream gives what follows."""


class LineReader:
    """Reads lines through one piece of memory. Of a line longer than `longest` bytes one more is given, the rest is
    skipped: a file without line ends, or of zeros, cannot fill the memory."""

    def __init__(self, longest: int, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._longest = longest
        self._memory = bytearray(block_bytes)

    def lines(
        self, read: Read, start: int = 0, end: int | None = None, *, inside: bool = False
    ) -> Iterator[tuple[memoryview, int]]:
        """(line with its end, where in the file what was given of it ends) of the lines whose first byte lies from
        byte `start` to before byte `end`. A line holds until the next one is asked for.

        `inside` says that `start` is any byte and not surely the first one of a line: the one before is looked at.
        """
        origin = start - inside  # where in the file the memory begins
        first = looked = filled = (
            0  # in the memory: the line, where its end is sought, the end of what was read
        )
        skip, ended = inside, False
        while end is None or origin + first < end:
            stop = self._memory.find(b"\n", looked, filled) + 1
            if skip and not stop:
                # Of a line that is skipped nothing is kept.
                if ended or (end is not None and origin + filled >= end):
                    return
                origin, first, filled = origin + filled, 0, 0
            if skip and stop:
                skip, first, looked = False, stop, stop
                continue
            if not stop and not ended and filled - first <= self._longest:
                if filled == len(self._memory):
                    self._make_room(first, filled)
                    origin, first, filled = origin + first, 0, filled - first
                looked = filled
                count = read(self._room(filled, origin, end), origin + filled)
                filled, ended = filled + count, count == 0
                continue
            cut = min(stop or filled, first + self._longest + 1)
            if cut == first:
                return
            yield memoryview(self._memory)[first:cut], origin + cut
            skip = cut - first > self._longest and self._memory[cut - 1] != _LINE_END
            first = looked = cut

    def _room(self, filled: int, origin: int, end: int | None) -> memoryview:
        """The memory to be filled next: up to the end of the range, or else a piece."""
        room = memoryview(self._memory)[filled:]
        if end is None:
            return room
        left = end - origin - filled
        return room[: left if left > 0 else _PIECE_BYTES]

    def _make_room(self, first: int, filled: int) -> None:
        """Moves the line that begins at `first` to the front; to larger memory where it fills all there is."""
        old = memoryview(self._memory)
        if first == 0:
            self._memory = bytearray(min(2 * len(old), self._longest + 1))
        memoryview(self._memory)[: filled - first] = old[first:filled]
