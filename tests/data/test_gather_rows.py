"""Are the rows gathered those of a loop over what is asked, of one file or several, wherever they begin?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.dataset import gather_rows

KINDS = [
    (np.dtype(np.float16), (3,)),
    (np.dtype(np.float16), (128,)),
    (np.dtype(np.int64), ()),
    (np.dtype(np.float32), (4,)),
]


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 30), st.sampled_from(KINDS))
def test_rows_are_those_of_a_loop(
    seed: int, count: int, asked: int, kind: tuple[np.dtype, tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(seed)
    files = [rng.integers(0, 256, int(rng.integers(1100, 1500)), np.uint8) for _ in range(count)]
    row_bytes = kind[0].itemsize * int(np.prod(kind[1]))
    file_of, counts = rng.integers(0, count, asked), rng.integers(0, 5, asked)
    firsts = np.array(
        [
            rng.integers(0, len(files[file]) - many * row_bytes + 1)
            for file, many in zip(file_of, counts, strict=True)
        ],
        np.int64,
    )
    got = gather_rows(files, file_of, firsts, counts, *kind)
    wanted = b"".join(
        files[file][first : first + many * row_bytes].tobytes()
        for file, first, many in zip(file_of, firsts, counts, strict=True)
    )
    assert got.shape == (counts.sum(), *kind[1])
    assert (got.dtype, got.tobytes()) == (kind[0], wanted)


@pytest.mark.parametrize("values", [1, 64])
@pytest.mark.parametrize("first", [9, 10**6])
def test_a_row_that_is_not_whole_in_its_file_is_an_index_error(first: int, values: int) -> None:
    one, file = np.ones(1, np.int64), np.zeros(8 + 8 * values, np.uint8)
    got = gather_rows([file], one - 1, one * 8, one, np.dtype(np.int64), (values,))
    assert got.tolist() == [[0] * values]
    with pytest.raises(IndexError):
        gather_rows([file], one - 1, one * first, one, np.dtype(np.int64), (values,))
