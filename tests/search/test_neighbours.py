"""Both kinds of neighbours find what a loop finds; the approximate one finds it in a few cells of a mapped file."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopwindow.files import DataError
from shopwindow.search import neighbours
from shopwindow.search.neighbours import Exact, Ivf, Neighbours, cell_count, write_ivf

ROWS, HIDDEN, CELLS = 3000, 24, 40


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Vectors in clusters. Rows 100, 200, ... 2900 are copies of row 100."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((50, HIDDEN), np.float32)
    found = centres[rng.integers(0, 50, ROWS)] + 0.3 * rng.standard_normal((ROWS, HIDDEN), np.float32)
    found[100::100] = found[100]
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


@pytest.fixture(scope="module")
def queries(vectors: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((50, HIDDEN), np.float32)
    asked: np.ndarray = vectors[rng.integers(0, ROWS, 50)] + np.float32(0.05) * noise
    return asked


@pytest.fixture(scope="module")
def file(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ivf") / "ivf.faiss"
    write_ivf(path, vectors, cells=CELLS)
    return path


@pytest.fixture(params=["exact", "all cells"])
def everything(request: pytest.FixtureRequest, vectors: np.ndarray, file: Path) -> Neighbours:
    """What reads every vector, or every code."""
    return Exact(vectors) if request.param == "exact" else Ivf.open(file, vectors, probes=CELLS)


def by_hand(vectors: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> list[int]:
    rows = range(len(vectors)) if allowed is None else np.flatnonzero(allowed).tolist()
    scores = {row: float(vectors[row].astype(np.float64) @ query.astype(np.float64)) for row in rows}
    return sorted(rows, key=lambda row: (-round(scores[row], 12), row))[:k]


def test_the_best_rows_are_those_of_a_loop(
    everything: Neighbours, vectors: np.ndarray, queries: np.ndarray
) -> None:
    for query, found in zip(queries, everything.search(queries, 10), strict=True):
        assert found.rows.tolist() == by_hand(vectors, query, 10)
        np.testing.assert_allclose(found.scores, vectors[found.rows] @ query, rtol=1e-5)


def test_exact_search_finds_what_faiss_finds(vectors: np.ndarray, queries: np.ndarray) -> None:
    rows = np.setdiff1d(np.arange(ROWS), np.arange(200, ROWS, 100))  # faiss does not order the copies
    flat = faiss.IndexFlatIP(HIDDEN)
    flat.add(vectors[rows])
    for found, wanted in zip(
        Exact(vectors[rows]).search(queries, 10), flat.search(queries, 10)[1], strict=True
    ):
        assert found.rows.tolist() == wanted.tolist()


@pytest.mark.parametrize("k", [1, 10, 28, 29, 40])
def test_tied_scores_rank_by_row(everything: Neighbours, vectors: np.ndarray, k: int) -> None:
    (found,) = everything.search(vectors[100:101], k)
    copies = list(range(100, ROWS, 100))[:k]
    assert found.rows[: len(copies)].tolist() == copies
    assert len(set(found.scores[: len(copies)].tolist())) == 1


@pytest.mark.parametrize("k", [ROWS - 1, ROWS, 10**18])
def test_as_many_as_there_are_come_once(everything: Neighbours, queries: np.ndarray, k: int) -> None:
    (found,) = everything.search(queries[:1], k)
    assert sorted(found.rows.tolist())[: ROWS - 1] == sorted(set(found.rows.tolist()))[: ROWS - 1]
    assert len(found.rows) == min(k, ROWS)


def test_more_rows_of_one_code_than_candidates_rank_by_their_exact_scores(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((900, 8), np.float32)
    vectors[400:] = 3
    vectors[400:, 0] += np.arange(500, dtype=np.float32) * np.float32(1e-6)  # finer than a byte
    write_ivf(tmp_path / "ivf", vectors, cells=3)
    (found,) = Ivf.open(tmp_path / "ivf", vectors, probes=3).search(np.ones((1, 8), np.float32), 2)
    assert found.rows.tolist() == by_hand(vectors, np.ones(8, np.float32), 2)
    assert found.rows[0] > 800


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1), k=st.integers(1, 50))
def test_filters_leave_only_allowed_rows(
    vectors: np.ndarray, queries: np.ndarray, file: Path, seed: int, share: float, k: int
) -> None:
    allowed = np.random.default_rng(seed).random(ROWS) < share
    wanted = by_hand(vectors, queries[seed % 50], k, allowed)
    query = queries[seed % 50 :][:1]
    assert Exact(vectors).search(query, k, allowed=allowed)[0].rows.tolist() == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "FEW_ROWS", 0)
        found = Ivf.open(file, vectors, probes=CELLS).search(
            query, k, allowed=allowed | (np.arange(ROWS) == 0)
        )
    assert found[0].rows.tolist() == by_hand(vectors, query[0], k, allowed | (np.arange(ROWS) == 0))


def test_few_allowed_rows_are_found_wherever_they_lie(
    vectors: np.ndarray, queries: np.ndarray, file: Path
) -> None:
    for query in queries:
        allowed = np.zeros(ROWS, bool)
        allowed[np.argsort(vectors @ query)[:1500]] = True  # the farther half: the nearest cells hold few
        (found,) = Ivf.open(file, vectors, probes=1).search(query[None], 10, allowed=allowed)
        assert found.rows.tolist() == by_hand(vectors, query, 10, allowed)


def test_cells_are_read_until_k_allowed_rows_are_found(
    vectors: np.ndarray, queries: np.ndarray, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "FEW_ROWS", 0)
    monkeypatch.setattr(neighbours, "_FILTERED", 0.001)
    for query in queries:
        allowed = np.zeros(ROWS, bool)
        allowed[np.argsort(vectors @ query)[:300]] = True
        (found,) = Ivf.open(file, vectors, probes=1).search(query[None], 10, allowed=allowed)
        assert len(found.rows) == 10
        assert allowed[found.rows].all()


def test_a_few_cells_hold_most_neighbours_and_more_cells_hold_more(
    vectors: np.ndarray, queries: np.ndarray, file: Path
) -> None:
    exact = Exact(vectors).search(queries, 10)

    def recall(probes: int) -> float:
        found = Ivf.open(file, vectors, probes=probes).search(queries, 10)
        pairs = zip(exact, found, strict=True)
        return float(np.mean([np.isin(wanted.rows, some.rows).mean() for wanted, some in pairs]))

    recalls = [recall(probes) for probes in (1, 4, 16, CELLS)]
    assert recalls == sorted(recalls)
    assert recalls[0] > 0.5
    assert recalls[1] > 0.9
    assert recalls[-1] == 1


def test_a_query_finds_the_same_alone_in_a_batch_and_among_threads(
    vectors: np.ndarray, queries: np.ndarray, file: Path
) -> None:
    ivf = Ivf.open(file, vectors, probes=4)
    for kind in (ivf, Exact(vectors)):
        together = [found.rows.tolist() for found in kind.search(queries, 10)]
        with ThreadPoolExecutor(4) as pool:
            alone = pool.map(lambda query, kind=kind: kind.search(query[None], 10)[0].rows.tolist(), queries)
            assert list(alone) == together
    wider = dataclasses.replace(ivf, probes=CELLS).search(queries, 10)
    assert [found.rows.tolist() for found in wider] == [
        found.rows.tolist() for found in Exact(vectors).search(queries, 10)
    ]


def test_blocks_of_queries_and_rows_change_nothing(
    vectors: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Exact(vectors).search(queries, 10)
    monkeypatch.setattr(neighbours, "_SCORES_AT_ONCE", 7 * ROWS)
    monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", 999)
    for one, other in zip(whole, Exact(vectors).search(queries, 10), strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.scores.tolist() == other.scores.tolist()


def test_the_same_vectors_make_the_same_file(vectors: np.ndarray, file: Path, tmp_path: Path) -> None:
    write_ivf(tmp_path / "again", vectors, cells=CELLS)
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_cut_file_is_refused(vectors: np.ndarray, file: Path, tmp_path: Path, share: float) -> None:
    content = file.read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="cut: broken or missing"):
        Ivf.open(tmp_path / "cut", vectors, probes=1)


def test_files_that_are_missing_or_of_other_vectors_are_refused(
    vectors: np.ndarray, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="broken or missing"):
        Ivf.open(tmp_path / "none", vectors, probes=1)
    with pytest.raises(DataError, match="2999 x 24"):
        Ivf.open(file, vectors[1:], probes=1)
    faiss.write_index(faiss.IndexFlatIP(HIDDEN), str(tmp_path / "flat"))
    with pytest.raises(DataError, match="not an inverted file"):
        Ivf.open(tmp_path / "flat", vectors, probes=1)


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        write_ivf(tmp_path / "none" / "ivf", np.ones((50, 4), np.float32), cells=3)


@pytest.mark.parametrize("cells", [0, 51])
def test_impossible_number_of_cells_is_refused(cells: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cells for 50 vectors"):
        write_ivf(tmp_path / "ivf", np.ones((50, 4), np.float32), cells=cells)


def test_cell_count_is_four_times_the_root() -> None:
    assert [cell_count(rows) for rows in (1, 100, 1_000_000)] == [1, 40, 4000]
