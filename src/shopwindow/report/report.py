"""What does a report say, and in which order? Scores, comparisons and audits become a page and its drawings.

What comes from outside of ranking (words of queries, photos, provenance) is handed in. It reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.files import open_whole
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.audit import Audit, RunAudit
from shopwindow.ranking.pools import Pools
from shopwindow.ranking.runs import Run
from shopwindow.ranking.significance import Comparison, Score, System, bootstrap_intervals
from shopwindow.report.page import Page, Thumbnail
from shopwindow.report.plots import as_svg, bars, forest, two_runs, write_figure
from shopwindow.report.sources import Outside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_QUERIES: Final = 10
_SHOWN_PRODUCTS: Final = 5
_MOST_NOUNS: Final = 12
_LEAST_IN_GROUP: Final = 3
_PUNCTUATION: Final = ".,;:!?\"'()[]*"
_PREPOSITIONS: Final = frozenset(
    ["for", "with", "without", "in", "of", "on", "from", "to", "by", "and", "or", "&"]
)


@dataclass(frozen=True, eq=False)
class Report:
    """A page, and its drawings by name, to be stored on their own as well."""

    page: Page
    figures: dict[str, Figure] = field(default_factory=dict)

    def draw(self, name: str, figure: Figure, caption: str) -> None:
        """Puts a drawing on the page."""
        self.figures[name] = figure
        self.page.drawing(as_svg(figure, title=caption), caption)

    def write(self, out: str, *, plots: str | None = None) -> None:
        """Writes the page, and each drawing as SVG and PNG to the folder `plots`."""
        with open_whole(out) as file:
            file.write(self.page.text().encode("utf-8", "replace").decode())  # names that are no UTF-8
        for name, figure in self.figures.items():
            if plots is not None:
                write_figure(figure, Path(plots), name)


def evaluation_report(
    systems: Sequence[System],
    comparisons: Sequence[Comparison],
    run: Run,
    answers: Answers,
    generator: np.random.Generator,
    *,
    pools: Pools | None = None,
    audited: Audit | None = None,
    outside: Outside | None = None,
    title: str = "How good are the rankings?",
) -> Report:
    """The report of `systems`, the first of which is compared with the others; `run` is a run of the first one.

    The first measure of the first system is the one that is drawn and looked at query by query.
    """
    outside = outside or Outside()
    report = Report(Page(title))
    measure = str(systems[0].evaluations[0].measures[0])
    _add_result(report.page, systems, comparisons, measure)
    _scores(report, systems, measure, generator)
    if comparisons:
        _differences(report, comparisons, measure)
        _scatter(report, systems, measure)
    _groups(report, systems[0], measure, answers, pools or Pools.of_run(run), outside, generator)
    _best_and_worst(report.page, systems[0], measure, run, answers, outside)
    if audited is not None:
        report.page.heading("The set: what can be scored without the query")
        add_audit(report, audited)
    _provenance(report.page, outside)
    return report


def audit_report(audited: Audit, *, outside: Outside | None = None) -> Report:
    """The report of an audit alone."""
    report = Report(Page("Can this set be scored without doing the job?"))
    add_audit(report, audited)
    _provenance(report.page, outside or Outside())
    return report


def add_audit(report: Report, audited: Audit) -> None:
    """The audit's verdict, its shortcuts and strata, and what becomes of each run."""
    page = report.page
    page.statement(audited.verdict, good=not audited.leaks)
    page.paragraph(
        f"{audited.queries} queries, {audited.candidates} candidates. A shortcut leaks when it scores more than"
        f" {audited.margin:g} above random order and the difference is significant (paired test, corrected for all"
        " shortcuts). The score of a shortcut is its mean over all orders of its ties; intervals are 95 %.",
        quiet=True,
    )
    _shortcuts(report, audited)
    report.draw(
        "strata",
        bars(
            [stratum.name for stratum in audited.strata],
            [stratum.probability for stratum in audited.strata],
            label="share of answers among the candidates",
            notes=[f"{stratum.probability:.3f} of {stratum.candidates}" for stratum in audited.strata],
        ),
        "How often a candidate is an answer, by how often its product occurs.",
    )
    for run in audited.runs:
        _audited_run(page, run, audited)
    for note in audited.notes:
        page.paragraph(note)


def _shortcuts(report: Report, audited: Audit) -> None:
    lines = sorted(audited.lines, key=lambda line: -line.score.mean)
    report.draw(
        "shortcuts",
        forest(
            [line.name for line in lines],
            [line.score.mean for line in lines],
            [line.score.low for line in lines],
            [line.score.high for line in lines],
            label=audited.measure,
            reference=audited.random.mean,
            marked=[line.leaks for line in lines],
        ),
        f"{audited.measure} of orders that never read the query; dashed: random order; red: leaks.",
    )
    rows = [
        [
            line.name + (" (may leak)" if audited.may_leak(line) else " (leaks)" if line.leaks else ""),
            _score(line.score),
            f"{line.above_random.mean:+.3f}",
            _p(line.p_corrected),
        ]
        for line in lines
    ]
    fixed = [["random order", _score(audited.random)], ["best possible", _score(audited.oracle)]]
    columns = ["order", audited.measure, "above random", "p (Holm)"]
    report.page.table(columns, rows + [[*row, "", ""] for row in fixed])


def _audited_run(page: Page, run: RunAudit, audited: Audit) -> None:
    page.heading(f"What a shortcut would add to {run.name}", level=3)
    after = [(line.name, run.after[line.name]) for line in audited.leaks]
    after.sort(key=lambda item: -item[1].mean)
    rows = [[run.name, _score(run.score)], *([f"+ {name}", _score(score)] for name, score in after)]
    page.table(["", audited.measure], rows)
    if run.cleared is not None:
        page.paragraph(
            f"De-leaked, (score - random) / (1 - random): {_score(run.cleared.corrected)} cleared of occurrence counts"
            f" and {_score(run.corrected)} in full. Cleared, the score is {run.cleared.score.mean:.3f} where random"
            f" order has {run.cleared.random.mean:.3f}."
        )
    for note in audited.notes_on(run):
        page.paragraph(f"{note[0].upper()}{note[1:]}.")


def _add_result(
    page: Page, systems: Sequence[System], comparisons: Sequence[Comparison], measure: str
) -> None:
    """The one sentence to take away: the first system's score, and against which systems it differs."""
    first = systems[0]
    of_measure = [comparison for comparison in comparisons if comparison.measure == measure]
    clear = [one for one in of_measure if not one.is_borderline]
    better = [one.second for one in clear if one.is_real and one.difference > 0]
    worse = [one.second for one in clear if one.is_real and one.difference < 0]
    level = [one.second for one in clear if not one.is_real]
    borderline = [one.second for one in of_measure if one.is_borderline]
    sentence = (
        f"{first.name} scores {first.mean(measure):.4f} ± {first.standard_error(measure):.4f} in {measure}"
    )
    sentence += f", better than {_and(better)}" if better else ""
    sentence += f", worse than {_and(worse)}" if worse else ""
    sentence += f"; no significant difference from {_and(level)}" if level else ""
    sentence += (
        f"; the difference from {_and(borderline)} is borderline, p is near 0.05" if borderline else ""
    )
    good = True if better and not worse else False if worse and not better else None
    page.statement(sentence + ".", good=good)
    page.paragraph(
        f"{len(first.queries)} judged queries; ± is the standard error, intervals are 95 %, tests are paired,"
        " two-sided, at 5 %, corrected for several comparisons (Holm).",
        quiet=True,
    )


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _scores(report: Report, systems: Sequence[System], measure: str, generator: np.random.Generator) -> None:
    report.page.heading("Scores")
    measures = list(map(str, systems[0].evaluations[0].measures))
    rows = [
        [system.name, *(f"{system.mean(one):.4f} ± {system.standard_error(one):.4f}" for one in measures)]
        for system in systems
    ]
    report.page.table(["run", *measures], rows)
    for evaluation in (evaluation for system in systems for evaluation in system.evaluations):
        for note in evaluation.notes:
            report.page.paragraph(f"{evaluation.run}: {note}.")
    ends = bootstrap_intervals(np.stack([system.of(measure).mean(axis=0) for system in systems]), generator)
    report.draw(
        "scores",
        forest(
            [system.name for system in systems],
            [system.mean(measure) for system in systems],
            ends[:, 0].tolist(),
            ends[:, 1].tolist(),
            label=measure,
        ),
        f"{measure} with 95 % intervals over queries. Overlap says little: the differences below are paired.",
    )


def _differences(report: Report, comparisons: Sequence[Comparison], measure: str) -> None:
    report.page.heading("Differences")
    of_measure = [comparison for comparison in comparisons if comparison.measure == measure]
    report.draw(
        "differences",
        forest(
            [f"against {comparison.second}" for comparison in of_measure],
            [comparison.difference for comparison in of_measure],
            [comparison.low for comparison in of_measure],
            [comparison.high for comparison in of_measure],
            label=f"{measure} of {of_measure[0].first}, less the other",
            reference=0.0,
            marked=[comparison.is_real and comparison.difference < 0 for comparison in of_measure],
        ),
        f"Paired differences in {measure} with 95 % intervals; right of the line {of_measure[0].first} is better.",
    )
    report.page.table(
        ["against", "measure", "difference", "95 % interval", "p", "p (Holm)", "w/t/l", "detects"],
        [
            [
                comparison.second,
                comparison.measure,
                f"{comparison.difference:+.4f}",
                f"{comparison.low:+.4f} to {comparison.high:+.4f}",
                _p(comparison.p_value),
                _p(comparison.p_corrected),
                f"{comparison.wins}/{comparison.ties}/{comparison.losses}",
                f"{comparison.detectable:.3f}",
            ]
            for comparison in comparisons
        ],
    )
    singles = dict.fromkeys(one.single_note for one in comparisons if one.single_note is not None)
    report.page.paragraph(
        f"{of_measure[0].sensitivity} w/t/l: queries won, tied, lost. Holm: corrected over the runs compared, within"
        f" one measure. {' '.join(singles)}".strip(),
        quiet=True,
    )


def _scatter(report: Report, systems: Sequence[System], measure: str) -> None:
    for number, other in enumerate(systems[1:], start=1):
        first = systems[0]
        report.draw(
            f"queries-{number}",
            two_runs(
                first.of(measure).mean(axis=0),
                other.of(measure).mean(axis=0),
                names=(first.name, other.name),
                measure=measure,
            ),
            f"Every query: above the line {first.name} is better. Larger points are several queries.",
        )


def query_groups(
    queries: Sequence[str], answers: Answers, pools: Pools, words: Mapping[str, str]
) -> dict[str, list[str]]:
    """The group of each judged query, by property: its length and head noun, its answers, its pool's size.

    Length and head noun only where the words are known. Rare head nouns are "other".
    """
    sizes = dict(zip(map(str, pools.queries.tolist()), pools.sizes.tolist(), strict=True))
    groups: dict[str, list[str]] = {}
    if words:
        texts = [words.get(query, "").split() for query in queries]
        groups["words in the query"] = [_number(len(text), 6) if text else "unknown" for text in texts]
        nouns = [_head_noun(text) for text in texts]
        distinct, counts = np.unique(nouns, return_counts=True)
        common = set(distinct[np.argsort(-counts, kind="stable")[:_MOST_NOUNS]].tolist())
        groups["head noun"] = [noun if noun in common else "other" for noun in nouns]
    groups["answers"] = [_number(count, 8) for count in answers.counts.tolist()]
    pool_sizes = [sizes.get(query, 0) for query in queries]
    edges = np.unique(np.quantile(pool_sizes, [0.25, 0.5, 0.75], method="lower")).tolist()
    if len(edges) == 1 and edges[0] == max(pool_sizes):  # most pools have the largest size
        edges = [edges[0] - 1]
    groups["candidates in the pool"] = [_range(size, edges) for size in pool_sizes]
    return groups


def _head_noun(words: Sequence[str]) -> str:
    """The last word before the first preposition: a rule of thumb that suits product queries.

    >>> _head_noun("square watch for gift".split()), _head_noun("Red canvas Bag".split())
    ('watch', 'bag')
    >>> _head_noun("red bag!".split())
    'bag'
    """
    lower = [bare for word in words if (bare := word.lower().strip(_PUNCTUATION))]
    end = next((index for index, word in enumerate(lower) if index and word in _PREPOSITIONS), len(lower))
    return lower[end - 1] if lower else "unknown"


def _number(count: int, most: int) -> str:
    return str(count) if count < most else f"{most} or more"


def _range(size: int, edges: Sequence[int]) -> str:
    below = [edge for edge in edges if edge < size]
    above = [edge for edge in edges if edge >= size]
    if not above:
        return f"more than {below[-1]}" if below else str(size)
    if not below:
        return f"up to {above[0]}"
    return str(above[0]) if below[-1] + 1 == above[0] else f"{below[-1] + 1} to {above[0]}"


def _groups(
    report: Report,
    system: System,
    measure: str,
    answers: Answers,
    pools: Pools,
    outside: Outside,
    generator: np.random.Generator,
) -> None:
    report.page.heading(f"Where {system.name} is good")
    values = system.of(measure).mean(axis=0)
    queries = list(map(str, system.queries.tolist()))
    for title, groups in query_groups(queries, answers, pools, outside.words).items():
        names, members = np.unique(groups, return_inverse=True)
        kept = [row for row in range(len(names)) if (members == row).sum() >= _LEAST_IN_GROUP]
        if len(kept) < 2:
            continue
        kept.sort(key=lambda row: _in_order(str(names[row])))
        parts = [values[members == row] for row in kept]
        ends = np.concatenate([bootstrap_intervals(part[None], generator, resamples=2000) for part in parts])
        report.page.heading(f"By {title}", level=3)
        report.draw(
            "by-" + title.replace(" ", "-"),
            forest(
                [f"{names[row]} (n = {len(part)})" for row, part in zip(kept, parts, strict=True)],
                [float(part.mean()) for part in parts],
                ends[:, 0].tolist(),
                ends[:, 1].tolist(),
                label=measure,
                reference=float(values.mean()),
            ),
            f"{measure} by {title}; dashed: all queries. Groups of fewer than {_LEAST_IN_GROUP} are left out.",
        )


def _in_order(name: str) -> tuple[int, int, str]:
    """Numbers by value, "more than" last, words by letter, "other" after them."""
    digits = [int(word) for word in name.split() if word.isdigit()]
    last = name.startswith("more") or name.endswith("more") or name in ("other", "unknown")
    return int(last), digits[-1] if digits else 0, name


def _best_and_worst(
    page: Page, system: System, measure: str, run: Run, answers: Answers, outside: Outside
) -> None:
    values = system.of(measure).mean(axis=0)
    order = np.argsort(-values, kind="stable")
    half = min(_SHOWN_QUERIES, len(order) // 2) or 1
    page.heading("The best queries")
    _queries(page, order[:half], values, system, run, answers, outside)
    page.heading("The worst queries")
    _queries(page, order[::-1][:half], values, system, run, answers, outside)


def _queries(
    page: Page,
    rows: Int64[np.ndarray, "shown"],
    values: Float64[np.ndarray, "queries"],
    system: System,
    run: Run,
    answers: Answers,
    outside: Outside,
) -> None:
    place = {query: index for index, query in enumerate(map(str, run.queries.tolist()))}
    for row in rows.tolist():
        query = str(system.queries[row])
        bounds = slice(answers.offsets[row], answers.offsets[row + 1])
        right = set(map(str, answers.product_ids[bounds][answers.grades[bounds] > 0].tolist()))
        words = outside.words.get(query)
        page.heading(
            f"{words} (query {query}): {values[row]:.2f}" if words else f"query {query}: {values[row]:.2f}",
            level=3,
        )
        if query in place:
            products = list(map(str, run.products_of(place[query])[:_SHOWN_PRODUCTS].tolist()))
            page.photos(
                [Thumbnail(product, product in right, outside.photo(product)) for product in products]
            )
        else:
            products = []
            page.paragraph("The run does not rank it.")
        missed = sorted(right - set(products))
        if missed and values[row] < 1:
            page.paragraph(f"Answers not among these: {len(missed)}.", quiet=True)
            page.photos(
                [Thumbnail(product, True, outside.photo(product)) for product in missed[:_SHOWN_PRODUCTS]]
            )


def _provenance(page: Page, outside: Outside) -> None:
    if outside.provenance:
        page.heading("Where this comes from")
        page.table(["", ""], [[name, value] for name, value in outside.provenance.items()])


def _score(score: Score) -> str:
    known = np.isfinite(score.low)
    return f"{score.mean:.3f} ({score.low:.3f} to {score.high:.3f})" if known else f"{score.mean:.3f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
