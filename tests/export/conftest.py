"""The small shops and indexes of the tests of models and search, for the tests of exports."""

from __future__ import annotations

from tests.model import conftest as model
from tests.search import conftest as search

shop = search.shop
engine = search.engine
late = search.late
own_index = search.own_index
priced_index = search.priced_index
tabled = search.tabled
tabled_index = search.tabled_index
tiny_shop = model.tiny_shop
