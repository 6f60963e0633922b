"""What do the words of a command stand for? Measures, runs and systems, checked before anything is counted.

Shared by the verbs that measure (`measure.py`, `audit.py`, `fuse.py`) and that report (`report.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shopwindow.cells import rows_of, separator_of
from shopwindow.files import STANDARD_STREAM, DataError, is_plain_file, open_bytes, text_lines
from shopwindow.shop.stages import part_of

if TYPE_CHECKING:
    import numpy as np

    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.measures import Evaluation, Measure
    from shopwindow.ranking.runs import Run
    from shopwindow.ranking.significance import System

_PARQUET: Final = b"PAR1"
_FEW_SHARED: Final = 0.02


def read_measures(words: Iterable[str]) -> list[Measure]:
    """The measures of words, each one or several with commas between."""
    from shopwindow.ranking.measures import Measure

    found = [Measure.parse(part) for word in words for part in word.split(",") if part.strip()]
    if not found:
        raise DataError("no measure was named")
    return list(dict.fromkeys(found))


def check_standard_input(*paths: str | None) -> None:
    """Refuses that two files are read from standard input."""
    if paths.count(STANDARD_STREAM) > 1:
        raise DataError("only one file can be read from standard input")


def check_numbers(*, resamples: int = 1, seed: int = 0) -> None:
    """Refuses what no generator can take, by the option's name."""
    if resamples < 1:
        raise DataError(f"--resamples {resamples}: at least 1 was wanted")
    if seed < 0:
        raise DataError(f"--seed {seed}: 0 or more was wanted")


def read_runs(words: Sequence[str], read: Callable[[str], Run] | None = None) -> list[list[Run]]:
    """The runs of each word: of one path, or of several joined by commas. `read` makes a run of one."""
    read = read or read_scores
    for word in words:
        if not all(path.strip() for path in word.split(",")):
            raise DataError(f"{word!r}: an empty file name; seeds of one system are joined as a1.run,a2.run")
    return [[read(path) for path in word.split(",")] for word in words]


def read_scores(path: str, score_column: str | None = None) -> Run:
    """A run from a score file of any kind, Parquet too (known by its first bytes)."""
    from shopwindow.ranking.runs import read_run

    if is_plain_file(path):
        with open_bytes(path) as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        if is_parquet:
            return _read_parquet(path, score_column)
    return read_run(path, score_column=score_column)


def _read_parquet(path: str, score_column: str | None) -> Run:
    """A run from three columns of a Parquet file, named as those of a table with a header."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from shopwindow.ids import RowError, ids_from_text
    from shopwindow.ranking.runs import Run, run_name
    from shopwindow.ranking.tables import header_columns

    try:
        names = pq.read_schema(path).names
        columns = header_columns(names, "score" if score_column is None else score_column, path)
        table = pq.read_table(path, columns=[names[index] for index in columns.values()])
        table = table.rename_columns(list(columns))
        scores = table["score"].cast(pa.float64()).to_numpy(zero_copy_only=False)
        for name in ("query_id", "product_id"):
            if pa.types.is_floating(table[name].type):
                raise DataError(
                    "numbers with a fraction, whole numbers or text were wanted", path=path, field=name
                )
        ids = {
            name: ids_from_text(["" if one is None else str(one) for one in table[name].to_pylist()])
            for name in ("query_id", "product_id")
        }
        return Run.from_arrays(ids["query_id"], ids["product_id"], np.array(scores), name=run_name(path))
    except RowError as wrong:
        raise DataError(f"row {wrong.row + 1}: {wrong.problem}", path=path, field=wrong.field) from wrong
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"broken Parquet, or other columns: {error}"[:300], path=path) from error


def read_queries(path: str) -> tuple[np.ndarray, list[str]]:
    """Ids and words of queries: of a prepared set, or of a table `query_id<TAB>query`.

    With the header `query_id,query` commas may part the two, or semicolons.

    Raises: DataError naming the line that is none, or repeats an id.
    """
    from shopwindow.ids import first_other_spelling, ids_from_text, other_spelling_problem

    if Path(path).is_dir():
        from shopwindow.data.dataset import Dataset

        dataset = Dataset(part_of(path, "dataset"))
        return dataset.query_ids, dataset.query_texts
    texts: dict[str, str] = {}
    lines = ((number, line) for number, line in text_lines(path) if line.strip())
    first = next(lines, (1, ""))
    separator = separator_of(first[1]) if first[1].strip('"').startswith("query_id") else "\t"
    for number, cells in rows_of(chain([first], lines), separator, path):
        query, words = cells[0].strip() if cells else "", cells[1:]
        if not any(cells) or (not texts and query == "query_id"):
            continue
        if len(words) != 1 or not query or not words[0].strip():
            raise DataError("a query_id, a tab and a query were wanted", path=path, line=number)
        if query in texts:
            raise DataError(f"query {query} stands there twice", path=path, line=number)
        texts[query] = words[0]
    if not texts:
        raise DataError("holds no query", path=path)
    ids = ids_from_text(list(texts))
    if (row := first_other_spelling(ids)) is not None:
        raise DataError(other_spelling_problem(ids[row]), path=path, field="query_id")
    return ids, list(texts.values())


def systems_of(
    words: Sequence[str], runs: Sequence[Sequence[Run]], answers: Answers, measures: Sequence[Measure]
) -> list[System]:
    """Each word's runs as a system, several runs as its repeated seeds.

    Named by the file; with its folder before it where two files have the same name.

    Raises: DataError for equal files, or a run that shares no query or no product with the answers.
    """
    _check_distinct(runs, words)
    for run in (one for found in runs for one in found):
        check_overlap(run, answers)
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.significance import System

    systems = []
    for name, found in zip(_distinct_names(words, runs), runs, strict=True):
        evaluations = tuple(evaluate_run(one, answers, measures) for one in found)
        systems.append(System(name, evaluations))
    return systems


def _distinct_names(words: Sequence[str], runs: Sequence[Sequence[Run]]) -> list[str]:
    """A name of each system: of its first run, and as many folders before it as tell different words apart."""
    folders = [Path(word.split(",")[0]).resolve().parent.parts for word in words]
    more = [f" and {len(found) - 1} more" if len(found) > 1 else "" for found in runs]
    names = [found[0].name + rest for found, rest in zip(runs, more, strict=True)]
    for depth in range(1, max(map(len, folders)) + 1):
        if all(words[one] == words[two] for one, two in _equal(names)):
            break
        for row in {row for pair in _equal(names) for row in pair}:
            names[row] = "/".join([*folders[row][-depth:], runs[row][0].name]) + more[row]
    return names


def _equal(names: Sequence[str]) -> list[tuple[int, int]]:
    return [(one, two) for one, two in combinations(range(len(names)), 2) if names[one] == names[two]]


def _check_distinct(systems: Sequence[Sequence[Run]], words: Sequence[str]) -> None:
    """Refuses the same scores twice among the seeds of a system, or among the systems that are compared with."""
    for runs in systems:
        for index, run in enumerate(runs):
            if any(run.equals(other) for other in runs[:index]):
                raise DataError(f"{run.name}: the same scores stand twice among the seeds of one system")
    for index in range(2, len(systems)):
        for other in range(1, index):
            pairs = zip(systems[index], systems[other], strict=False)
            if len(systems[index]) == len(systems[other]) and all(one.equals(two) for one, two in pairs):
                raise DataError(
                    f"{words[other]} and {words[index]} hold the same scores; one of them is enough"
                )


def check_overlap(run: Run, answers: Answers) -> None:
    """Refuses a run that shares no query or no product with the answers: its score would be 0 for a wrong reason."""
    import numpy as np

    from shopwindow.ids import positions

    for what, mine, wanted in (
        ("query", run.queries, answers.queries),
        ("product", run.product_ids, answers.product_ids[answers.grades > 0]),
    ):
        if len(mine) and len(wanted) and (positions(mine, np.unique(wanted)) < 0).all():
            raise DataError(
                f"{run.name}: no {what} of it is in the answers (its first is {mine[0]}, theirs {wanted[0]}):"
                " answers of another set, or ids written otherwise?"
            )


def overlap_notes(runs: Sequence[Run]) -> list[str]:
    """A note on each run that hardly shares a product with the first under the same queries."""
    from shopwindow.ids import Pairs, positions

    first, notes = runs[0], []
    pairs = Pairs.of(first.queries, first.offsets, first.product_ids)
    for run in runs[1:]:
        common = positions(run.queries, first.queries) >= 0
        rows = int((run.offsets[1:] - run.offsets[:-1])[common].sum())
        shared = int((pairs.find(run.queries, run.offsets, run.product_ids) >= 0).sum())
        if rows and shared < _FEW_SHARED * min(rows, len(first.product_ids)):
            notes.append(
                f"{run.name} and {first.name} share {shared} of {rows} products under the same queries (their first "
                f"are {run.product_ids[0]} and {first.product_ids[0]}): ids written otherwise?"
            )
    return notes


def system_of(evaluation: Evaluation) -> System:
    """A system of one run."""
    from shopwindow.ranking.significance import System

    return System(evaluation.run, (evaluation,))


def score_text(system: System, measure: str) -> str:
    """A system's score with its standard error, and its spread over seeds where there are several."""
    error, spread = system.standard_error(measure), system.spread(measure)
    shown = f"{system.mean(measure):.4f}" + (f" ± {error:.4f}" if math.isfinite(error) else "")
    return shown + (f" [{spread:.4f}]" if math.isfinite(spread) else "")
