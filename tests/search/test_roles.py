"""Title, link, price and currency of products are found among an index's columns, or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.search.conditions import Kind
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Value
from shopwindow.search.roles import Roles, check_roles
from tests.search.conftest import Shop

COLUMNS: dict[str, Kind] = {
    "Name": "word",
    "url": "word",
    "Price": "number",
    "colour": "word",
    "was": "number",
}


def test_usual_names_are_found_in_any_case() -> None:
    assert dict(Roles.of(COLUMNS, {})) == {"Name": "title", "url": "link", "Price": "price"}
    assert dict(Roles.of(COLUMNS, {"title": "colour"})) == {
        "colour": "title",
        "url": "link",
        "Price": "price",
    }
    assert dict(Roles.of({}, {})) == {}


def test_values_are_shown_as_what_they_are() -> None:
    values: dict[str, Value] = {"Name": "Lamp", "url": "https://shop.example/1", "Price": 9.5}
    roles = Roles.of(COLUMNS, {"currency": "EUR"})
    assert roles.shown(values) == {
        "title": "Lamp",
        "link": "https://shop.example/1",
        "price": 9.5,
        "currency": "EUR",
    }
    assert roles.shown({}) == dict.fromkeys(("title", "link", "price", "currency"))
    own = Roles.of({**COLUMNS, "currency": "word"}, {})
    assert own.shown({**values, "currency": "SEK"})["currency"] == "SEK"


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "shop.example", ""])
def test_a_link_that_a_page_may_not_follow_is_none(link: str) -> None:
    assert Roles.of(COLUMNS, {}).shown({"url": link})["link"] is None


def test_a_role_of_no_column_is_refused() -> None:
    check_roles(COLUMNS, {"title": "colour", "currency": "EUR"})
    with pytest.raises(ValueError, match="link: no column 'page'; the index has Name, url"):
        check_roles(COLUMNS, {"link": "page"})
    with pytest.raises(ValueError, match="currency: no column 'euros and cents'"):
        check_roles(COLUMNS, {"currency": "euros and cents"})


def test_an_index_shows_names_prices_and_links_of_the_columns_that_are_named(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "columns.csv"
    table.write_text(
        "product_id,label,page,price\n5,Round lamp,https://shop.example/5,9.5\n6,Chair,ftp://6,\n"
    )
    make = ["index", "make", str(shop.bundle), str(shop.dataset), "--columns", str(table)]
    main([*make, "--out", str(tmp_path / "i"), "--title", "label", "--link", "page", "--currency", "EUR"])
    engine = SearchEngine.open(tmp_path / "i")
    lamp, chair = engine.product(5), engine.product(6)
    assert (lamp.title, lamp.link) == ("Round lamp", "https://shop.example/5")
    assert (lamp.price, lamp.currency) == (9.5, "EUR")
    assert (chair.title, chair.link, chair.price, chair.currency) == ("Chair", None, None, None)
    assert [column.role for column in engine.columns] == ["title", "link", "price"]
    with pytest.raises(SystemExit):
        main([*make, "--out", str(tmp_path / "j"), "--title", "names"])
    assert (
        "columns.csv: title: no column 'names'; the index has label, page, price" in capsys.readouterr().err
    )
    assert not (tmp_path / "j").exists()
