"""Reports: what they say, that they are one self-contained file, and that a browser shows them on a phone, by night."""

from __future__ import annotations

import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shopwindow.cli import main
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.audit import audit
from shopwindow.ranking.measures import DEFAULT_MEASURES, evaluate
from shopwindow.ranking.pools import Pools, grades_of, run_of
from shopwindow.ranking.significance import System, compare
from shopwindow.report.page import Page, Thumbnail
from shopwindow.report.plots import as_svg, bars, forest, two_runs, write_figure
from shopwindow.report.report import Report, audit_report, evaluation_report, query_groups
from shopwindow.report.sources import Outside, thumbnails

QUERIES = 24
WORDS = ["red bag", "blue canvas bag", "lamp", "striped mug <b>&"]


def jpeg(colour: tuple[int, int, int]) -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(stored, "JPEG")
    return stored.getvalue()


def made_report() -> Report:
    """Two runs over 24 small pools, the first the better one, with words, photos and an audit."""
    generator = np.random.default_rng(0)
    ids = np.repeat(np.arange(QUERIES), 8)
    pools = Pools.from_arrays(ids, np.arange(len(ids)))
    right = generator.random(len(ids)) < 0.4
    right[np.arange(0, len(ids), 8) + generator.integers(0, 8, QUERIES)] = True
    answers = Answers.from_arrays(ids[right], np.arange(len(ids))[right])
    grades = grades_of(pools, answers)
    runs = [
        run_of(pools, grades * lift + generator.normal(size=len(ids)), name=name)
        for lift, name in ((2.0, "good <run>"), (0.5, "fair"))
    ]
    systems = [System(run.name, (evaluate(run, answers, DEFAULT_MEASURES),)) for run in runs]
    return evaluation_report(
        systems,
        compare(systems[0], systems[1:], generator, resamples=500),
        runs[0],
        answers,
        generator,
        pools=pools,
        audited=audit(pools, answers, generator, runs=runs[:1], resamples=500),
        outside=Outside(
            words={str(query): WORDS[query % 4] for query in range(QUERIES)},
            photo=lambda product: jpeg((200, 80, 80)) if int(product) % 2 else None,
            provenance={"runs/a.run": "sha256 0123"},
        ),
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return made_report()


def test_report_says_what_was_found(report: Report) -> None:
    page = report.page.text()
    text = html.unescape(re.sub("<[^>]+>", " ", page))
    for wanted in (
        "better than fair",
        "Differences",
        "recall@10",
        "The worst queries",
        "blue canvas bag (query 1)",
        "No leak found",
        "cleared of occurrence counts",
        "sha256 0123",
        "✓",
    ):
        assert wanted in text, wanted
    groups = {"by-answers", "by-head-noun", "by-words-in-the-query"}
    assert set(report.figures) == groups | {"scores", "differences", "queries-1", "shortcuts", "strata"}


def test_report_needs_no_other_file_and_runs_no_script(report: Report) -> None:
    page = report.page.text()
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)=["\']?(?!data:|#)[^"\'> ]+', page)
    assert not re.findall(r"url\((?!#)", page)
    assert "good <run>" not in page
    assert "mug <b>" not in page


def test_same_parts_give_the_same_page(report: Report) -> None:
    assert made_report().page.text() == report.page.text()


def test_drawing_takes_the_ink_of_its_page_and_keeps_text_as_text() -> None:
    svg = as_svg(
        forest(["a $x$ <b>", "b" * 60], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3], label="nDCG@5"), title="a < b"
    )
    assert "currentColor" in svg
    assert "<title>a &lt; b</title>" in svg
    assert "a $x$ &lt;b&gt;" in html.unescape(svg).replace("<b>", "&lt;b&gt;")
    assert "bbb…bbb" in svg
    assert svg.startswith("<svg ")
    assert "<metadata" not in svg


def test_figures_are_stored_as_svg_and_png(tmp_path: Path) -> None:
    ones = np.array([0.0, 0.5, 1.0, 1.0])
    write_figure(two_runs(ones, ones[::-1].copy(), names=("a", "b"), measure="MRR"), tmp_path, "two")
    write_figure(bars(["a", "b"], [0.5, float("nan")], label="share", notes=["1", "none"]), tmp_path, "bars")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.png", "bars.svg", "two.png", "two.svg"]
    with Image.open(tmp_path / "two.png") as stored:
        assert stored.size[0] > 400


def test_page_frames_right_photos_and_lists_ids_where_there_are_none() -> None:
    page = Page("t")
    page.photos([Thumbnail("7", True), Thumbnail("8", False)])
    page.photos([Thumbnail("7", True, b"x"), Thumbnail("8", False)])
    text = page.text()
    assert "<p>✓ 7 · 8</p>" in text
    assert '<li class=right><div class=box><img alt="product 7" src="data:image/jpeg;base64,eA==">' in text
    assert "<li><div class=box>no photo</div>8</li>" in text


def test_groups_of_queries_counted_by_hand() -> None:
    answers = Answers.from_lists({1: [1], 2: [1, 2], 3: []})
    pools = Pools.from_arrays(np.array([1, 1, 2, 2, 2, 3]), np.array([1, 2, 1, 2, 3, 1]))
    found = query_groups(["1", "2", "3"], answers, pools, {"1": "red bag", "2": "a b c d e f bag"})
    assert found["words in the query"] == ["2", "6 or more", "unknown"]
    assert found["head noun"] == ["bag", "bag", "unknown"]
    assert found["answers"] == ["1", "2", "0"]
    assert found["candidates in the pool"] == ["2", "more than 2", "up to 1"]
    even = Pools.from_arrays(np.repeat(np.arange(5), [3, 3, 3, 3, 2]), np.concatenate([np.arange(14)]))
    groups = query_groups(list("01234"), Answers.from_lists({q: [1] for q in range(5)}), even, {})
    assert groups["candidates in the pool"] == ["more than 2"] * 4 + ["up to 2"]


def test_worst_queries_show_the_answers_that_were_missed() -> None:
    pools = Pools.from_arrays(np.repeat([1, 2], 8), np.arange(16))
    answers = Answers.from_lists({0: [], 1: [0], 2: [15], 3: []})
    run = run_of(pools, -np.arange(16.0), name="a")
    system = System("a", (evaluate(run, answers, DEFAULT_MEASURES),))
    text = evaluation_report([system], [], run, answers, np.random.default_rng(0)).page.text()
    assert "<p class=quiet>Answers not among these: 1.</p>\n<p>✓ 15</p>" in text
    assert "a: judged queries without an answer, counted 0: 2, the first is 0." in text


def test_audit_alone_has_a_report() -> None:
    pools = Pools.from_arrays(np.repeat([1, 2, 3], 4), np.arange(12))
    found = audit(pools, Answers.from_lists({1: [0], 2: [4], 3: [8]}), np.random.default_rng(0))
    text = audit_report(found).page.text()
    assert "first in the file" in text


def test_verb_writes_report_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(query, product, (query * 7 + product * 5) % 11) for query in range(12) for product in range(6)]
    Path("a.tsv").write_text("".join(f"{q}\t{p}\t{s}\n" for q, p, s in rows))
    Path("b.tsv").write_text("".join(f"{q}\t{p}\t{-s}\n" for q, p, s in rows))
    Path("answers.json").write_text("{" + ",".join(f'"{q}": [{q % 6}]' for q in range(12)) + "}")
    Path("photos").mkdir()
    Path("photos/1.jpg").write_bytes(jpeg((0, 90, 200)))
    Path("bundle").mkdir()
    Path("bundle/recipe.yaml").write_text("depth: 2\n")
    Path("bundle/bundle.json").write_text('{"provenance": {"steps": 30}}')
    given = ["--answers", "answers.json", "--pools", "a.tsv", "--photos", "photos", "--bundle", "bundle"]
    Path("q.tsv").write_text("".join(f"{query}\tred bag\n" for query in range(12)))
    given += ["--queries", "q.tsv"]
    main(["report", "a.tsv", "b.tsv", *given, "--out", "out/r.html", "--plots", "out/plots"])
    text = Path("out/r.html").read_text()
    assert "model steps" in text
    assert "model recipe" in text
    assert "red bag (query 3)" in text
    assert "data:image/jpeg" in text
    assert Path("out/plots/differences.png").is_file()


def test_photo_of_an_id_that_is_a_path_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.jpg").write_bytes(jpeg((0, 90, 200)))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(np.array([[[255] * 3] * 64] * 32 + [[[0] * 3] * 64] * 32, np.uint8)).save(
        tmp_path / "photos" / "1.jpg", exif=turned
    )
    photo = thumbnails(str(tmp_path / "photos"))
    assert photo("../secret") is None
    assert photo(str(tmp_path / "secret")) is None
    small = photo("1")
    assert small is not None
    grey = np.asarray(Image.open(io.BytesIO(small)).convert("L"))
    assert grey[20, 150] > 200 > 50 > grey[20, 20]


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: the report was not looked at in a browser")
    return found


def browse(*arguments: str) -> str:
    plain = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    done = subprocess.run(
        [chromium(), *plain, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_sticks_out_of_the_window(report: Report, tmp_path: Path, width: int) -> None:
    script = (
        "const d = frame.contentDocument; document.title = ['width', d.documentElement.scrollWidth,"
        " d.querySelectorAll('svg').length, Math.min(...[...d.querySelectorAll('svg text')]"
        ".map(t => t.getBoundingClientRect().height))].join(' ')"
    )
    framed = html.escape(report.page.text(), quote=True)
    page = f'<iframe id=frame width={width} height=800 style="border:0" srcdoc="{framed}" onload="{script}"></iframe>'
    (tmp_path / "framed.html").write_text("<title>x</title>" + page)
    dom = browse("--virtual-time-budget=5000", "--dump-dom", (tmp_path / "framed.html").as_uri())
    seen = re.search(r"<title>width (\d+) (\d+) ([\d.]+)</title>", dom)
    assert seen is not None
    assert int(seen[1]) <= width
    assert int(seen[2]) == 8
    assert float(seen[3]) >= 8  # px: the smallest text of the drawings


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)])
def test_page_follows_the_colour_scheme(report: Report, tmp_path: Path, scheme: int, dark: bool) -> None:
    (tmp_path / "r.html").write_text(report.page.text())
    shot = tmp_path / "r.png"
    browse(
        f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=800,1200",
        f"--screenshot={shot}",
        (tmp_path / "r.html").as_uri(),
    )
    with Image.open(shot) as picture:
        grey = np.asarray(picture.convert("L"), dtype=float)
    paper, ink = np.median(grey), np.abs(grey - np.median(grey)).max()
    assert bool(paper < 60) is dark
    assert ink > 150


def test_names_with_dollars_are_text_and_no_formula(tmp_path: Path) -> None:
    name, ones = "cost$5_$10", np.array([0.0, 1.0, 0.5])
    figure = two_runs(ones, ones[::-1].copy(), names=(name, "b"), measure="MRR")
    write_figure(figure, tmp_path, "two")
    assert name in as_svg(figure, title=name)
    assert name in as_svg(forest([name, "b"], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3], label=name), title="a")
    assert name in as_svg(bars([name, "b"], [0.5, 0.1], label="share", notes=[name, "b"]), title="a")
