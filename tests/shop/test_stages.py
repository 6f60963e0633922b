"""A stage is done again only where its input changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shopwindow.files import DataError
from shopwindow.shop.stages import Stages, file_hash


def maker(times: list[str]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        times.append(path.name)
        path.write_text("made")

    return make


def test_a_stage_is_kept_while_its_inputs_are_equal(tmp_path: Path) -> None:
    times: list[str] = []
    assert Stages(tmp_path / "shop").run("dataset", {"clicks": 1}, maker(times))
    assert not Stages(tmp_path / "shop").run("dataset", {"clicks": 1}, maker(times))
    assert times == ["dataset"]


def test_a_stage_is_done_again_where_its_inputs_changed_or_it_is_gone(tmp_path: Path) -> None:
    times: list[str] = []
    stages = Stages(tmp_path)
    stages.run("dataset", {"clicks": 1}, maker(times))
    assert stages.run("dataset", {"clicks": 2}, maker(times))
    (tmp_path / "dataset").unlink()
    assert stages.run("dataset", {"clicks": 2}, maker(times))


def test_a_stage_that_failed_is_not_done(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise DataError("broken")

    times: list[str] = []
    stages = Stages(tmp_path)
    with pytest.raises(DataError):
        stages.run("dataset", {}, fail)
    assert Stages(tmp_path).run("dataset", {}, maker(times))


def test_a_folder_of_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other files"):
        Stages(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters.txt"]


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other"}', '{"format": "shopwindow shop 1"}'])
def test_a_broken_shop_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "shop.json").write_text(content)
    with pytest.raises(DataError, match=r"shop\.json"):
        Stages(tmp_path)


def test_finish_keeps_the_stages(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    stages.run("dataset", {}, maker([]))
    stages.finish({"verdict": "serve it"})
    content = json.loads((tmp_path / "shop.json").read_text())
    assert content["verdict"] == "serve it"
    assert "dataset" in content["stages"]


def test_a_missing_file_has_no_hash(tmp_path: Path) -> None:
    assert file_hash(None) is None
    with pytest.raises(DataError, match="cannot be read"):
        file_hash(tmp_path / "clicks.csv")
