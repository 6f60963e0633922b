"""What the page shows of a model with late interaction: which word looks at which box, as that second score has it."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from shopwindow.data.dataset import Dataset
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.explanation import explain, explain_by_occlusion
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.service.app import Service
from tests.model.parts import LATE_PARTS
from tests.search.conftest import Shop

FOUR_REGIONS = 7


@pytest.fixture(scope="module")
def late_bundle(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("late")
    recipe = load_recipe("late", {"parts": LATE_PARTS, "late.width": 8})
    tokenizer, model = initial_model(Dataset(shop.dataset), recipe)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        assert model.late is not None
        model.late.word.weight.normal_()
    with whole_directory(folder / "bundle", marker=MARKER) as written:
        Bundle(model.eval(), tokenizer, recipe=recipe.to_yaml()).save_into(written)
    return folder / "bundle"


def test_the_services_why_is_the_late_interaction(shop: Shop, late_bundle: Path, tmp_path: Path) -> None:
    build_index(late_bundle, shop.dataset, tmp_path / "index")
    with TestClient(
        Service(SearchEngine.open(tmp_path / "index")).app, base_url="http://localhost"
    ) as client:
        said = client.get(f"/products/{FOUR_REGIONS}/explain", params={"q": "red summer bag"})
        product = client.get(f"/products/{FOUR_REGIONS}").json()
    assert said.status_code == httpx.codes.OK
    answer = said.json()
    bundle, dataset = Bundle.load(late_bundle), Dataset(shop.dataset)
    row = dataset.product_ids.tolist().index(FOUR_REGIONS)
    photo = dataset.regions(np.array([row]), boxes=True)
    wanted, other = (
        explain(bundle, "red summer bag", photo),
        explain_by_occlusion(bundle, "red summer bag", photo),
    )
    assert answer["words"] == ["red", "summer", "bag"]
    assert np.shape(answer["weights"]) == (3, len(product["regions"])) == (3, 4)
    np.testing.assert_allclose(answer["weights"], wanted.weights, atol=1e-6)
    assert answer["score"] == pytest.approx(wanted.score, abs=1e-6)
    assert np.abs(np.array(answer["weights"]) - np.array(other.weights)).max() > 1e-3
