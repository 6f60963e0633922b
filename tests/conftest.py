"""Where the tests find real data, and how they run: two workers share two cores, so each torch has one."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch is imported; commands that tests start inherit it

import pytest
from hypothesis import settings

# Machines are noisy: no deadlines. In CI the same examples every time, so that a red run means a changed code.
settings.register_profile("gate", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("gate")

SHARED = Path(os.environ.get("SHOPWINDOW_SHARED", Path(__file__).parents[1] / ".." / "shared")).resolve()


@pytest.fixture(scope="session")
def kddcup() -> Path:
    """Real artefacts of the competition; tests that need them are skipped where they are absent."""
    folder = SHARED / "kddcup2020"
    if not folder.is_dir():
        pytest.skip(f"real competition artefacts not at {folder} (set SHOPWINDOW_SHARED)")
    return folder


@pytest.fixture(scope="session")
def product_sets() -> Path:
    """The two real product-photo sets; tests that need them are skipped where they are absent."""
    folder = SHARED / "sets"
    if not folder.is_dir():
        pytest.skip(f"real product sets not at {folder} (set SHOPWINDOW_SHARED)")
    return folder


@pytest.fixture(scope="session")
def shops() -> Path:
    """Real shops as their owners have them; tests that need them are skipped where they are absent."""
    folder = SHARED / "shops"
    if not folder.is_dir():
        pytest.skip(f"real shops not at {folder} (set SHOPWINDOW_SHARED)")
    return folder
