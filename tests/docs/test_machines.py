"""The commands of "More than one machine" do what the page says, as far as one machine can show it."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from shopwindow.cli import main, parser_of
from shopwindow.ranking.runs import read_run
from tests.docs import pages
from tests.search.catalogue import write_bundle, write_dataset
from tests.vision.photos import write_shop

PAGE = pages.DOCS / "how-to" / "machines.md"


def commands(heading: str) -> list[list[str]]:
    """The words of the commands below a heading."""
    text = PAGE.read_text(encoding="utf-8").partition(f"{heading}\n")[2]
    block = pages.fenced(text, "sh")[0]
    return [shlex.split(line)[1:] for line in pages.commands(f"```sh\n{block}```\n")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shards_of_photos_are_joined(folder: Path) -> None:
    write_shop(folder, 40)
    words = commands("## More than one machine")
    assert [command[-1] for command in words] == ["1/2", "2/2", "--merge"]
    for command in words:
        main([*command, "--backbone", "plain"])
    main(["extract", "products.csv", "--photos", "photos", "--out", "one", "--backbone", "plain"])
    hashes = [
        json.loads((folder / name / "features.json").read_text())["content_hash"]
        for name in ("features", "one")
    ]
    assert hashes[0] == hashes[1]


def test_slurm_says_which_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shop(folder, 40)
    words = shlex.split(
        next(line for line in PAGE.read_text().splitlines() if line.endswith("--shard slurm"))
    )[1:]
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    for task in ("2", "1", "3"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        main([*words, "--backbone", "plain"])
    main([*words[:-2], "--merge", "--backbone", "plain"])
    assert json.loads((folder / "features" / "features.json").read_text())["counts"]["products"] == 40


def test_two_machines_rank_in_one_folder(folder: Path) -> None:
    write_bundle(folder / "bundle")
    write_dataset(folder / "valid", range(60))
    for command in commands("### Two machines with one folder"):
        main(command)
    main(["rank", "bundle", "valid", "--out", "one.run"])
    ours, one = read_run("valid.run"), read_run("one.run")
    assert ours.product_ids.tolist() == one.product_ids.tolist()
    assert ours.scores.tolist() == pytest.approx(one.scores.tolist(), abs=1e-5)


def test_the_pods_of_the_job_count_from_one() -> None:
    (block,) = pages.fenced(PAGE.read_text(encoding="utf-8"), "yaml")
    job = yaml.safe_load(block)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    script = container["args"][0].replace("shopwindow", "echo", 1)
    said = [
        subprocess.run(
            [*container["command"], script],
            env={"JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for index in range(job["completions"])
    ]
    assert {words[-1] for words in said} == {f"{number}/40" for number in range(1, 41)}
    parser, _ = parser_of("extract")
    assert parser.read(said[0][1:])["shard"] == "1/40"
