"""The filters of the page, used in a real browser: each changes its own condition, and none is a dead end."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from shopwindow.search.conditions import parse_conditions
from shopwindow.search.hits import Filter
from tests.service.browser import Page
from tests.service.conftest import ServerProcess
from tests.service.toy import MAKERS, ToyEngine

pytestmark = pytest.mark.slow


def expected(engine: ToyEngine, *conditions: str) -> list[str]:
    where = Filter(conditions=parse_conditions(conditions))
    return [hit.product_id for hit in engine.search("red", k=48, where=where)]


def chips(page: Page) -> list[str]:
    return [chip.text.removesuffix(" ✕") for chip in page.all("#chips button")]


def test_choosing_one_filter_leaves_the_others_as_they_are(
    page: Page, engine: ToyEngine, toy_server: ServerProcess
) -> None:
    bounds = ("price<=+30", "price<=20")
    page.open(toy_server.url + "/#q=red&where=price%3C%3D%2B30&where=price%3C%3D20")
    page.until_shown(expected(engine, *bounds))
    page.one("#filter-says").click()
    most = page.one("[data-column=price][data-relation='<=']")
    assert most.get_attribute("value") == "20"  # the one that counts
    Select(page.one("select[data-column=colour]")).select_by_visible_text("red")
    page.until_shown(expected(engine, *bounds, "colour=red"))
    assert chips(page) == ["price ≤ +30", "price ≤ 20", "colour: red"]
    most.send_keys(Keys.ENTER)  # nothing was changed
    assert chips(page) == ["price ≤ +30", "price ≤ 20", "colour: red"]
    most.clear()
    most.send_keys("25", Keys.ENTER)
    page.until_shown(expected(engine, "price<=25", "colour=red"))
    assert chips(page) == ["colour: red", "price ≤ 25"]
    page.open(toy_server.url + "/#q=red&where=price%3C%3D%2B20")
    page.until_shown(expected(engine, "price<=20"))
    page.one("#filter-says").click()
    assert page.one("[data-column=price][data-relation='<=']").get_attribute("value") == "20"


def test_a_column_of_many_words_says_so_and_takes_any(page: Page, engine: ToyEngine) -> None:
    page.search("red")
    page.one("#filter-says").click()
    maker = page.one("input[data-column=maker]")
    assert maker.get_attribute("placeholder") == f"any of {MAKERS}"
    assert len(page.all("datalist option")) == 30
    assert maker.get_attribute("list") == page.one("datalist").get_attribute("id")
    unlisted = next(
        str(engine.products[one].values["maker"])
        for one in expected(engine)
        if int(str(engine.products[one].values["maker"]).split()[1]) >= 30
    )
    maker.send_keys(unlisted, Keys.ENTER)
    page.until_shown(expected(engine, f"maker={unlisted}"))
    assert chips(page) == [f"maker: {unlisted}"]


def test_filters_are_offered_as_soon_as_the_index_says_what_there_is(
    driven: Page, toy_server: ServerProcess, engine: ToyEngine
) -> None:
    driver = driven.driver
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/index"]})
    try:
        driver.get(toy_server.url + "/#q=red&where=price%3C%3D20")
        driven.until_shown(expected(engine, "price<=20"))
        assert driven.one("#about").text == ""
        assert not driven.one("#filter").is_displayed()
    finally:
        driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    driven.until("return document.querySelectorAll('#chips button').length === 1")
    driven.one("#chips button").click()
    driven.until_shown(expected(engine))
    driven.until("return document.getElementById('about').textContent !== ''")
    driven.one("#filter-says").click()
    assert driven.one("[data-column=price][data-relation='<=']").is_displayed()
    driven.complaints()  # the browser notes what was blocked


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("where=weight%3C%3D2", "no column weight"),
        ("where=price%3C2", "Condition 'price<2': wanted one such as"),
        ("label=x", "valid integer"),
    ],
)
def test_a_filter_that_cannot_be_asked_is_taken_away_by_one_press(
    page: Page, engine: ToyEngine, toy_server: ServerProcess, address: str, says: str
) -> None:
    page.open(f"{toy_server.url}/#q=red&{address}&late=true")
    page.until("return document.getElementById('message').textContent.includes('cannot be searched')")
    told = page.one("#message").text
    assert says in told
    assert "query." not in told
    assert page.one("#message button").text == "Take away the filters"
    page.one("#message button").click()
    page.until_shown(expected(engine))
    assert chips(page) == []
    page.complaints()  # the browser notes the 422


def test_ways_that_have_no_effect_are_not_offered(
    page: Page, engine: ToyEngine, toy_server: ServerProcess
) -> None:
    liked = expected(engine)[0]
    page.open(f"{toy_server.url}/#like={liked}&late=true&hybrid=true&where=price%3C%3D30")
    page.until("return document.querySelectorAll('#results .tile').length > 0")
    assert chips(page) == ["price ≤ 30"]
    page.one("#filter-says").click()
    assert not page.one("#ways").is_displayed()
    page.open(f"{toy_server.url}/#q=red&late=true")
    page.until("return document.querySelectorAll('#results .tile').length > 0")
    assert chips(page) == ["Look closer"]
    page.one("#filter-says").click()
    assert page.one("#ways").is_displayed()


def test_an_unknown_product_is_said_and_offers_nothing(
    page: Page, engine: ToyEngine, toy_server: ServerProcess
) -> None:
    found = expected(engine)
    page.open(f"{toy_server.url}/#q=red&open=9")
    page.until("return document.getElementById('detail-fault').textContent.includes('holds no product 9')")
    for gone in (".stage", "#like", "#regions-section", "#why"):
        assert not page.one(gone).is_displayed()
    page.one("#close").click()
    page.until("return document.querySelectorAll('#results .tile').length > 0")
    page.one("#results a").click()
    page.until("return document.querySelectorAll('#regions li').length > 0")
    assert page.one("#detail-name").text == f"Product {found[0]}"
    for there in (".stage", "#like", "#regions-section", "#why"):
        assert page.one(there).is_displayed()
    page.complaints()  # the browser notes the 404


def test_tiles_show_the_price(page: Page, engine: ToyEngine) -> None:
    found = page.search("red")
    prices = [f"price {engine.products[one].values['price']:g}" for one in found]
    assert [one.text for one in page.all("#results .known")] == prices
    assert page.one("#results a").accessible_name == f"Product {found[0]}, place 1, {prices[0]} score 1.000"
