"""The filters of the page, used in a real browser: each changes its own condition, and none is a dead end."""

from __future__ import annotations

import time

import pytest
from selenium.webdriver.common.keys import Keys

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
    most = page.one("[data-column=price][data-relation='<=']")
    assert most.get_attribute("value") == "20"  # the one that counts
    page.one("[data-column=colour][value=red]").click()
    page.until_shown(expected(engine, *bounds, "colour=red"))
    assert chips(page) == ["price ≤ +30", "price ≤ 20", "colour: red"]
    most.send_keys(Keys.ENTER)  # nothing was changed
    assert chips(page) == ["price ≤ +30", "price ≤ 20", "colour: red"]
    page.one("[data-column=colour][value=blue]").click()
    page.until_shown(expected(engine, *bounds, "colour=red|blue"))
    assert chips(page) == ["price ≤ +30", "price ≤ 20", "colour: red or blue"]
    page.one("[data-column=colour][value=blue]").click()
    page.until_shown(expected(engine, *bounds, "colour=red"))
    most.clear()
    most.send_keys("25", Keys.ENTER)
    page.until_shown(expected(engine, "price<=25", "colour=red"))
    assert chips(page) == ["colour: red", "price ≤ 25"]
    page.open(toy_server.url + "/#q=red&where=price%3C%3D%2B20")
    page.until_shown(expected(engine, "price<=20"))
    assert page.one("[data-column=price][data-relation='<=']").get_attribute("value") == "20"


def test_conditions_typed_among_the_words_become_filters(page: Page, engine: ToyEngine) -> None:
    box = page.one("#words")
    box.clear()
    box.send_keys("red price<20 price>5", Keys.ENTER)
    page.until_shown(expected(engine, "price<20", "price>5"))
    assert box.get_attribute("value") == "red"
    assert chips(page) == ["price under 20", "price over 5"]
    assert page.one("[data-column=price][data-relation='<=']").get_attribute("value") == "20"
    box.send_keys(" price<15 nocolumn<3", Keys.ENTER)
    page.until("return document.getElementById('words').value === 'red nocolumn<3'")
    assert chips(page) == ["price over 5", "price under 15"]


def test_enter_searches_at_once_and_opens_no_suggestions_over_the_results(
    page: Page, engine: ToyEngine
) -> None:
    page.driver.execute_script(
        "document.getElementById('words').value = 'red';"
        "document.getElementById('words').dispatchEvent(new Event('input', {bubbles: true}));"
        "document.getElementById('form').requestSubmit();"
    )
    page.until_shown(expected(engine))
    time.sleep(0.5)  # longer than the pause after which the page suggests
    asked = (
        "return performance.getEntriesByType('resource').filter(one => one.name.includes('/suggest?')).length"
    )
    assert page.driver.execute_script(asked) == 0
    assert not page.one("#typing").is_displayed()


def test_nothing_found_is_not_said_below_an_open_list_of_suggestions(
    page: Page, toy_server: ServerProcess
) -> None:
    shown = "return getComputedStyle(document.getElementById('message')).visibility === arguments[0]"
    page.open(toy_server.url + "/#q=red&where=price%3E9999")
    page.until("return !document.getElementById('message').hidden")
    page.until(shown, "visible")
    page.one("#words").send_keys(Keys.BACKSPACE)
    page.until("return !document.getElementById('typing').hidden")
    page.until(shown, "hidden")
    page.one("#words").send_keys(Keys.ESCAPE)
    page.until(shown, "visible")


def test_a_column_of_many_words_says_so_and_takes_any(page: Page, engine: ToyEngine) -> None:
    page.search("red")
    maker = page.one("input[data-typed=maker]")
    assert len(page.all("#columns [data-column=maker]")) == 30
    assert sum(one.is_displayed() for one in page.all("#columns [data-column=maker]")) == 8
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
    driven.driver.execute_script("document.querySelector('#chips button').click()")
    driven.until_shown(expected(engine))
    driven.until("return document.getElementById('about').textContent !== ''")
    assert driven.one("[data-column=price][data-relation='<=']").is_displayed()
    driven.complaints()  # the browser notes what was blocked


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("where=weight%3C%3D2", "no column weight"),
        ("where=price!2", "Condition 'price!2': wanted one such as"),
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
    assert not page.one("#ways").is_displayed()
    page.open(f"{toy_server.url}/#q=red&late=true")
    page.until("return document.querySelectorAll('#results .tile').length > 0")
    assert chips(page) == ["Look closer"]
    assert page.one("#ways").is_displayed()


def test_values_and_labels_say_how_many_products_have_them(page: Page, engine: ToyEngine) -> None:
    page.search("red")
    counts = [f"{count}" for count in engine.columns[1].counts]
    shown = [one.text for one in page.all("#columns fieldset:nth-of-type(2) .count") if one.is_displayed()]
    assert shown == counts[: len(shown)]
    assert len(shown) in (8, len(counts))
    offered = {box.get_attribute("value") for box in page.all("#labels input")}
    people = {str(label) for label in range(28, 33)}  # others, face, arm, hair, hand
    assert people & {str(label) for label in engine.label_counts}
    assert offered == {str(label) for label in engine.label_counts} - people


def test_a_missing_product_is_a_notice_and_the_search_stays(
    page: Page, engine: ToyEngine, toy_server: ServerProcess
) -> None:
    page.open(f"{toy_server.url}/#q=red&open=9")
    page.until("return document.getElementById('notice').textContent === 'This product is no longer here.'")
    assert page.one("#notice").is_displayed()
    assert not page.all("#detail[open]")
    page.until_shown(expected(engine))
    assert "open" not in page.driver.current_url
    page.complaints()  # the browser notes the 404


def test_tiles_show_name_price_and_link(page: Page, engine: ToyEngine) -> None:
    found = page.search("red")
    products = [engine.products[one] for one in found]
    assert [one.text for one in page.all("#results .price")] == [f"€{one.price:.2f}" for one in products]
    assert [one.text for one in page.all("#results .title")] == [
        one.title or f"Product {one.product_id}" for one in products
    ]
    links = [one.get_attribute("href") for one in page.all("#results .out")]
    assert links == [one.link for one in products]
    name = products[0].title or f"Product {found[0]}"
    assert page.one("#results a").accessible_name == f"{name} €{products[0].price:.2f}, place 1"
    fit = "return getComputedStyle(document.querySelector('#results img')).objectFit"
    assert page.driver.execute_script(fit) == "contain"
