"""The measuring verbs, run as a shell runs them: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shopwindow.cli import main

RUN = "1 Q0 10 1 3 a\n1 Q0 11 2 2 a\n1 Q0 12 3 1 a\n2 Q0 10 1 3 a\n2 Q0 13 2 2 a\n9 Q0 1 1 1 a\n"
FIRST = ["--pools", "p.tsv", "--answers", "first.json"]
ANSWERS = '{"1": [10, 12], "2": [13], "3": [5], "4": []}'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.run").write_text(RUN)
    Path("answers.json").write_text(ANSWERS)
    Path("other.run").write_text("q1 Q0 10 1 3 a\n")
    Path("named.run").write_text("1 Q0 p10 1 3 a\n")
    Path("pools.tsv").write_text("query_id\tproduct_id\n1\t10\n1\t11\n1\t12\n2\t10\n2\t13\n3\t5\n")
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_scores_are_printed_with_standard_errors_and_what_is_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", "a.run", "answers.json", "--measures", "hit@1", "MRR"])
    assert lines(capsys) == [
        "measure a",
        "hit@1 0.2500 ± 0.2500",
        "MRR 0.3750 ± 0.2394",
        "mean over 4 queries ± its standard error",
        "judged queries that are not in the run, counted 0: 2, the first is 3",
        "judged queries without an answer, counted 0: 1, the first is 4",
        "queries of the run that are not judged, not counted: 1, the first is 9",
        "audit of what a ranks (no --pools): No leak found: none of 6 shortcuts is significantly more than 0.03 above"
        " random order. Random order scores 0.843, the best possible 1.000. The best shortcut is 'large product id':"
        " +0.117, corrected p 1.",
    ]


def test_swapped_run_and_answers_are_called_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "answers.json", "a.run"])
    assert (
        "answers.json holds answers: are the two swapped? `evaluate RUN ANSWERS`" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "a.run", "a.run"])
    assert "swapped" not in capsys.readouterr().err


def test_pools_add_random_order_and_the_oracle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "a.run", "answers.json", "--pools", "pools.tsv", "--measures", "hit@1,nDCG@5"])
    printed = lines(capsys)
    assert printed[0] == "measure a random oracle"
    assert printed[1].endswith("0.7500 ± 0.2500")
    assert [line.split()[0] for line in printed[1:3]] == ["hit@1", "nDCG@5"]
    assert any(line.startswith("audit of the set: No leak found") for line in printed)
    assert "candidates of the pools that the run does not score: 1" in printed
    assert "products that the run scores outside the pools, ranked all the same: 1" in printed
    main(["evaluate", "a.run", "answers.json", "--pools", "pools.tsv", "--json"])
    card = json.loads(capsys.readouterr().out)["audit"]
    assert card["best_possible"] == 1.0  # of the queries that have a pool
    assert card["leaks"] == {}


def test_comparison_says_whether_a_difference_is_real(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = {query: [1] for query in range(40)}
    Path("many.json").write_text(json.dumps(queries))
    for name, score in (("good", 2), ("bad", 0)):
        Path(name + ".tsv").write_text("".join(f"{query}\t1\t{score}\n{query}\t2\t1\n" for query in queries))
    main(["evaluate", "good.tsv", "many.json", "--against", "bad.tsv", "good.tsv", "--measures", "hit@1"])
    printed = lines(capsys)
    bad, good = printed.index("good against bad"), printed.index("good against good")
    assert printed[bad + 2] == "hit@1 +1.0000 +1.0000 to +1.0000 0.0001 0.0002 40/0/0 0.0000"
    assert printed[bad + 3].startswith(
        "hit@1: the difference is significant after Holm's correction over 2 comparisons (p = 0.0002; "
    )
    assert printed[good + 2] == "hit@1 +0.0000 +0.0000 to +0.0000 1.0000 1.0000 0/40/0 0.0000"
    assert printed[good + 3] == (
        "hit@1: no significant difference after Holm's correction over 2 comparisons (p = 1; alone p = 1)."
    )


def test_runs_of_one_file_name_are_told_apart_by_their_folder(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, score in (("x", 3), ("y", 4)):
        Path(folder).mkdir()
        Path(folder, "a.run").write_text(RUN.replace("10 1 3", f"10 1 {score}"))
    main(
        [
            "evaluate",
            "a.run",
            "answers.json",
            "--against",
            "x/a.run",
            "y/a.run",
            "--measures",
            "MRR,MRR",
            "MRR",
        ]
    )
    printed = lines(capsys)
    own = Path.cwd().name + "/a"
    assert f"{own} against x/a" in printed
    assert f"{own} against y/a" in printed
    assert sum(line.startswith("MRR 0.3750 ± 0.2394 0.3750") for line in printed) == 1


def test_seeds_joined_by_commas_are_one_system(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.run").write_text(RUN.replace("10 1 3", "10 1 0"))
    main(["evaluate", "a.run,b.run", "answers.json", "--against", "a.run", "--measures", "MRR", "--json"])
    found = json.loads(capsys.readouterr().out)
    group, alone = found["systems"]
    assert [seed["run"] for seed in group["seeds"]] == ["a", "b"]
    assert alone["run"] == "a"
    assert found["comparisons"][0]["over_seeds"] is True
    main(["evaluate", "a.run,b.run", "answers.json", "--measures", "MRR"])
    printed = lines(capsys)
    assert printed[0] == "measure a and 1 more"
    assert "[0.0000]" in printed[1] or "[0.0" in printed[1]


def test_json_holds_the_value_of_every_query_and_nothing_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", "a.run", "answers.json", "--json", "--measures", "MRR"])
    (found,) = json.loads(capsys.readouterr().out)["systems"]
    assert found["measures"]["MRR"]["per_query"] == {"1": 1.0, "2": 0.5, "3": 0.0, "4": 0.0}
    assert found["measures"]["MRR"]["mean"] == 0.375
    assert (found["missing"], found["unanswered"], found["extra"]) == ([3, 4], [4], [9])


def test_submission_is_written_and_checked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.tsv").write_text("".join(f"7\t{product}\t{product / 2}\n" for product in range(9)))
    main(["submit", "b.tsv", "--out", "out/s.csv"])
    assert Path("out/s.csv").read_text().splitlines()[1] == "7,8,7,6,5,4"
    main(["submit", "--check", "out/s.csv"])
    main(["submit", "--check", "out/s.csv", "--pools", "b.tsv"])
    assert lines(capsys) == [
        "out/s.csv: 1 query",
        "out/s.csv: right, 1 query (form only; give --pools to check membership)",
        "out/s.csv: right, 1 query (every product in its pool)",
    ]


def test_fused_run_is_written_and_learned_weights_are_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = {str(query): [query % 4] for query in range(20)}
    Path("right.json").write_text(json.dumps(right))
    pairs = [(query, product) for query in range(20) for product in range(4)]
    good = [
        (query, product, 3.0 * (product == query % 4) + (query * product) % 3) for query, product in pairs
    ]
    Path("good.tsv").write_text("".join(f"{q}\t{p}\t{s}\n" for q, p, s in good))
    Path("bad.tsv").write_text("".join(f"{q}\t{p}\t{(q * 5 + p * 3) % 7}\n" for q, p, _ in good if p))
    main(["fuse", "good.tsv", "bad.tsv", "--out", "mean.run", "--method", "mean", "--weights", "1", "0"])
    assert lines(capsys) == [
        "bad: 20 of 80 candidates not scored",
        "mean.run: 20 queries, 80 candidates",
    ]
    assert Path("mean.run").read_text().splitlines()[0] == "0 Q0 0 1 3.0 mean"
    main(["fuse", "good.tsv", "bad.tsv", "--out", "mean.run", "--answers", "right.json"])
    assert [line.split()[0] for line in lines(capsys)[:4]] == ["run", "mean", "good", "bad"]
    main(["fuse", "good.tsv", "bad.tsv", "--out", "learned.run", "--learn", "right.json", "--folds", "4"])
    printed = lines(capsys)
    assert printed[1].startswith("learned (held out)")
    assert float(printed[2].split()[1]) > 0.8
    assert printed[4].startswith("for other queries: --method zscore --weights")
    assert len(Path("learned.run").read_text().splitlines()) == 80


def test_audit_fails_above_a_margin_with_exit_code_1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(query, query * 8 + product) for query in range(60) for product in range(8)]
    Path("p.tsv").write_text("".join(f"{q}\t{p}\n" for q, p in rows))
    Path("first.json").write_text(json.dumps({str(query): [query * 8] for query in range(60)}))
    with pytest.raises(SystemExit) as caught:
        main(["audit", *FIRST, "--run", "p.run", "--fail-above", "0.1", "--html", "a.html"])
    assert caught.value.code == 2
    Path("p.run").write_text("".join(f"{q} Q0 {p} 1 {p % 5} x\n" for q, p in rows))
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["audit", *FIRST, "--run", "p.run", "--fail-above", "0.1", "--html", "a.html"])
    assert caught.value.code == 1
    printed = lines(capsys)
    assert any(line.startswith("first in the file 1.000 1.000 to 1.000") for line in printed)
    assert printed[-1].startswith("This set leaks")
    assert "This set leaks" in Path("a.html").read_text()
    main(["audit", "--pools", "p.tsv", "--answers", "first.json", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["leaks"] == ["first in the file", "small product id"]
    assert found["strata"] == [{"name": "in 1 pool", "candidates": 480, "answers": 60, "probability": 0.125}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fuse a.run --out b.run", "two runs or more are needed"),
        ("fuse a.run a.run --out b.run --weights 1 1 --learn answers.json", "one of the two"),
        ("fuse a.run a.run --out b.run --weights 1", "1 weights for 2 runs"),
        ("fuse a.run a.run --out b.run --learn answers.json", "5 folds of 2 judged queries"),
        ("audit --pools pools.tsv --answers answers.json --measure x", "measure 'x' is not known"),
        ("report a.run --answers answers.json --out r.html --photos none", "none: no such folder"),
        ("report a.run --answers answers.json --out r.html --bundle none", "none/bundle.json: no such file"),
        ("evaluate none.run answers.json", "none.run: no such file"),
        ("evaluate a.run answers.json --measures P@5", "measure 'P@5' is not known; there are nDCG[@k]"),
        ("evaluate a.run answers.json --measures ,", "no measure was named"),
        ("evaluate a.run answers.json --against a.run --resamples 0", "--resamples 0: at least 1 was wanted"),
        ("evaluate a.run answers.json --seed -1", "--seed -1: 0 or more was wanted"),
        ("audit --pools pools.tsv --answers answers.json --seed -1", "--seed -1: 0 or more was wanted"),
        ("evaluate a.run, answers.json", "'a.run,': an empty file name"),
        ("evaluate a.run,a.run answers.json", "a: the same scores stand twice among the seeds"),
        ("evaluate a.run answers.json --against a.run a.run", "a.run and a.run hold the same scores"),
        (
            "evaluate other.run answers.json",
            "other: no query of it is in the answers (its first is q1, theirs 1)",
        ),
        (
            "evaluate named.run answers.json",
            "named: no product of it is in the answers (its first is p10, theirs 10)",
        ),
        ("evaluate a.run answers.json --against other.run", "other: no query of it"),
        ("audit --pools pools.tsv --answers answers.json --run other.run", "other: no query of it"),
        ("audit --pools pools.tsv --answers answers.json --also pools.tsv", "are the pools themselves"),
        ("audit --pools named.run --answers answers.json", "named.run: no answer is among the candidates"),
        ("fuse a.run a.run --out b.run --learn answers.json --answers answers.json", "leave out --answers"),
        ("evaluate - -", "only one file can be read from standard input"),
        ("submit a.run", "--out FILE is needed"),
        ("submit a.run --check --out x", "--check writes nothing"),
        ("submit a.run --check", "a.run line 1: '1 Q0 10 1 3 a', the header"),
        ("submit a.run --out s.csv", "pools, query 1: 3 candidates in the pool, a submission needs 5"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
