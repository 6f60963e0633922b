"""Are the lines of a file those that Python finds, whatever the memory, the reads and the lengths?"""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.lines import LineReader


def slowly(data: bytes, most: int) -> Callable[[memoryview, int], int]:
    """Reads of at most so many bytes, as of a pipe."""
    file = io.BytesIO(data)
    return lambda memory, _: file.readinto(memory[:most])


@given(st.lists(st.integers(0, 30), max_size=12), st.booleans(), st.integers(1, 50), st.integers(1, 9))
def test_lines_are_those_of_python(lengths: list[int], ended: bool, block: int, most: int) -> None:
    data = b"\n".join(b"%c" % (97 + place) * length for place, length in enumerate(lengths)) + b"\n" * ended
    got = [bytes(line) for line, _ in LineReader(100, block_bytes=block).lines(slowly(data, most))]
    assert got == data.splitlines(keepends=True)


def test_long_line_is_cut_and_the_next_line_is_whole() -> None:
    data = b"a" * 10 + b"\n" + b"b" * 95 + b"\nshort\n" + b"c" * 33
    for block in (1, 7, 11, 200):
        lines = list(LineReader(10, block_bytes=block).lines(slowly(data, 1000)))
        # Each list item is a view of memory that is used again, so that only lengths and places are kept.
        assert [(len(line), end) for line, end in lines] == [(11, 11), (11, 22), (6, 113), (11, 124)]


def test_memory_stays_within_the_longest_line() -> None:
    reader = LineReader(1000, block_bytes=16)
    data = b"x" * 100_000
    assert [len(line) for line, _ in reader.lines(slowly(data, 10**6))] == [1001]
    assert len(reader._memory) == 1001


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4])
def test_a_start_inside_a_line_is_the_next_line(start: int) -> None:
    data = b"ab\ncd\n"
    wanted = {0: [(b"ab\n", 3), (b"cd\n", 6)], 1: [(b"cd\n", 6)], 2: [(b"cd\n", 6)], 3: [(b"cd\n", 6)], 4: []}

    def read(memory: memoryview, place: int) -> int:
        piece = data[place : place + len(memory)]
        memory[: len(piece)] = piece
        return len(piece)

    inside = start > 0
    got = [(bytes(line), end) for line, end in LineReader(9).lines(read, start, inside=inside)]
    assert got == wanted[start]
