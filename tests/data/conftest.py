"""The small shop of the model tests, for tests of what a dataset gives."""

from __future__ import annotations

from tests.model import conftest as model

tiny_shop = model.tiny_shop
