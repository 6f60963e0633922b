"""The page, used in a real browser: typing, looking, moving by keys, and a server that breaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from shopwindow.search.conditions import parse_conditions
from shopwindow.search.hits import Filter
from tests.service.browser import Page, axe_source
from tests.service.conftest import ServerProcess, start_server
from tests.service.toy import ToyEngine

pytestmark = pytest.mark.slow


def test_typing_shows_the_right_photos(page: Page, engine: ToyEngine) -> None:
    assert page.search("red bag") == [hit.product_id for hit in engine.search("red bag", k=48)]
    page.until("return document.querySelector('#results img.here')?.naturalWidth > 0")
    assert page.driver.title == "red bag · shopwindow"


def test_typing_fast_asks_seldom(page: Page) -> None:
    page.search("red striped leather bag for women")
    asked = page.driver.execute_script(
        "return performance.getEntriesByType('resource').filter(one => one.name.includes('/search?')).length"
    )
    assert 1 <= asked <= 6


def test_similar_shows_products_like_one_and_back_returns(page: Page, engine: ToyEngine) -> None:
    found = page.search("red")
    page.one(f"[data-id='{found[1]}'] button").click()
    page.until("return document.getElementById('status').textContent.includes('most like this one')")
    assert page.shown() == [hit.product_id for hit in engine.similar(found[1], k=48)]
    page.driver.back()
    page.until("return document.getElementById('status').textContent.includes('“red”')")
    assert page.shown() == found


def test_labels_filter_and_can_be_taken_away(page: Page, engine: ToyEngine) -> None:
    everything = page.search("red")
    label = next(one for found in everything for one in engine.products[found].labels if one < 28)
    page.driver.execute_script(f"document.querySelector('#labels input[value=\"{label}\"]').click()")
    page.until("return document.querySelectorAll('#chips button').length === 1")
    page.until("return document.querySelectorAll('#results .tile').length !== arguments[0]", len(everything))
    assert page.shown()
    assert all(label in engine.products[one].labels for one in page.shown())
    page.driver.execute_script("document.querySelector('#chips button').click()")
    page.until("return document.querySelectorAll('#results .tile').length === arguments[0]", len(everything))


def test_values_filter_stay_in_the_address_and_can_be_taken_away(page: Page, engine: ToyEngine) -> None:
    def expected(*conditions: str) -> list[str]:
        where = Filter(conditions=parse_conditions(conditions))
        return [hit.product_id for hit in engine.search("red", k=48, where=where)]

    everything = page.search("red")
    most = page.one("[data-column=price][data-relation='<=']")
    assert most.get_attribute("placeholder") == f"{engine.columns[0].maximum:g}"
    most.send_keys("25", Keys.ENTER)
    page.until_shown(expected("price<=25"))
    assert page.one("#filter").get_attribute("open")
    least = page.one("[data-column=price][data-relation='>=']")
    least.send_keys("9.5", Keys.TAB)
    page.until_shown(expected("price<=25", "price>=9.5"))
    page.one("[data-column=colour][value=red]").click()
    page.until_shown(expected("price<=25", "price>=9.5", "colour=red"))
    assert expected("price<=25", "price>=9.5", "colour=red") not in ([], everything)
    address = page.driver.current_url
    page.open(address)
    page.until_shown(expected("price<=25", "price>=9.5", "colour=red"))
    assert page.one("[data-column=price][data-relation='<=']").get_attribute("value") == "25"
    assert page.one("[data-column=colour][value=red]").is_selected()
    assert [chip.text for chip in page.all("#chips button")] == [
        "price ≤ 25 ✕",
        "price ≥ 9.5 ✕",
        "colour: red ✕",
    ]
    for left in (2, 1, 0):
        page.one("#chips button").click()
        page.until("return document.querySelectorAll('#chips button').length === arguments[0]", left)
    page.until_shown(everything)


def test_a_condition_typed_into_the_address_is_asked_or_its_fault_shown(
    page: Page, engine: ToyEngine, toy_server: ServerProcess
) -> None:
    page.open(toy_server.url + "/#q=red&where=colour%3Dred%7Cblue")
    where = Filter(conditions=parse_conditions(["colour=red|blue"]))
    page.until_shown([hit.product_id for hit in engine.search("red", k=48, where=where)])
    assert page.one("#chips button").text == "colour: red or blue ✕"
    page.open(toy_server.url + "/#q=red&where=weight%3C%3D2%3Cimg%3E")
    page.until("return document.getElementById('message').textContent.includes('cannot be searched')")
    assert not page.all("#chips img")
    page.open(toy_server.url + "/#q=red&where=price%3C%3D-1")
    page.until("return document.getElementById('message').textContent.includes('Nothing found')")
    page.one("#message button").click()
    page.until_shown([hit.product_id for hit in engine.search("red", k=48)])
    page.complaints()  # the browser notes the 422


def test_other_ways_of_search_can_be_chosen(page: Page, engine: ToyEngine) -> None:
    text = next(iter(engine.products.values())).texts[0]
    plain = page.search(text)
    page.one("#ways input[value=late]").click()
    late = [hit.product_id for hit in engine.search(text, k=48, rerank="late")]
    assert late != plain
    page.until_shown(late)
    page.one("#ways input[value=late]").click()
    page.until_shown(plain)
    page.one("#ways input[value=hybrid]").click()
    page.until("return document.querySelector('#results .strip span').textContent === '2.000'")
    page.until_shown([hit.product_id for hit in engine.search(text, k=48, hybrid=True)])
    assert page.one("#chips button").text == "Also match names ✕"


def test_keys_typed_into_a_filter_stay_there(page: Page) -> None:
    page.search("red")
    page.until("return document.querySelectorAll('#typing li').length > 0")
    page.one("#words").send_keys(Keys.ESCAPE)  # the suggestions may lie above the filters
    page.one("[data-column=price][data-relation='<=']").click()
    ActionChains(page.driver).send_keys("/", "1").perform()
    assert page.driver.execute_script("return document.activeElement.dataset.column") == "price"


def test_detail_shows_what_is_known_of_a_product(page: Page, engine: ToyEngine) -> None:
    product_id = page.search("red")[0]
    page.one("#results a").click()
    page.until("return document.querySelectorAll('#values div').length === 2")
    product = engine.products[product_id]
    assert page.one("#detail-price").text == f"€{product.price:.2f}"
    assert page.one("#link").get_attribute("href") == product.link
    said = ["colour", product.values["colour"], "maker", product.values["maker"]]
    assert page.one("#values").text.split("\n") == said


def test_detail_draws_boxes_and_hovering_shows_why(page: Page, engine: ToyEngine) -> None:
    product_id = page.search("red nonsense")[0]
    page.one("#results a").click()
    page.until("return document.querySelectorAll('#why-words button').length === 2")
    view = engine.products[product_id]
    boxes = page.driver.execute_script(
        "const sides = ['y', 'x', 'height', 'width'];"
        "const of = rect => sides.map(name => +rect.getAttribute(name));"
        "return [...document.querySelectorAll('#frame rect')].map(of)"
    )
    assert sorted(map(tuple, boxes)) == sorted(
        (top, left, bottom - top, right - left) for top, left, bottom, right in view.boxes
    )
    frame = page.driver.execute_script(
        "const place = selector => document.querySelector(selector).getBoundingClientRect();"
        "const [frame, image] = [place('#frame'), place('#frame img')];"
        "return [frame.width / frame.height, image.width / image.height]"
    )
    assert frame == pytest.approx([view.image_w / view.image_h] * 2, rel=0.02)
    red, nonsense = page.all("#why-words button")
    ActionChains(page.driver).move_to_element(red).perform()
    page.until("return document.querySelectorAll('#frame rect.lit').length > 0")
    ActionChains(page.driver).move_to_element(nonsense).perform()
    page.until("return document.querySelectorAll('#frame rect.lit').length === 0")
    assert not page.one("#regions").is_displayed()
    page.one("#see").click()
    ActionChains(page.driver).move_to_element(page.one("#regions li")).perform()
    page.until("return document.querySelectorAll('#why-words .lit').length === 1")
    assert red.get_attribute("class") == "lit"
    assert len(page.all("#frame rect.lit")) == 1


def test_a_tap_on_a_word_keeps_its_parts_lit_and_a_second_one_ends_that(page: Page) -> None:
    page.search("red")
    page.one("#results a").click()
    page.until("return document.querySelectorAll('#why-words button').length === 1")
    assert page.focused() == "detail-name"
    assert page.driver.execute_script(
        "return [...document.querySelectorAll('#frame rect')].every(one => getComputedStyle(one).opacity === '0')"
    )
    (red,) = page.all("#why-words button")
    red.click()
    ActionChains(page.driver).move_to_element(page.one("#detail-name")).perform()
    assert red.get_attribute("aria-pressed") == "true"
    assert page.all("#frame rect.lit")
    red.click()
    ActionChains(page.driver).move_to_element(page.one("#detail-name")).perform()
    assert red.get_attribute("aria-pressed") == "false"
    assert not page.all("#frame rect.lit")


def test_more_products_come_by_a_press(page: Page, engine: ToyEngine) -> None:
    page.open(page.driver.current_url.split("#")[0] + "#where=price%3C%3D1000&q=others")
    everything = [hit.product_id for hit in engine.similar(next(iter(engine.products)), k=200)]
    first = next(iter(engine.products))
    page.driver.execute_script("location.hash = new URLSearchParams({ like: arguments[0] })", first)
    page.until_shown(everything[:48])
    page.one("#more-button").click()
    page.until_shown(everything[:96])
    assert page.focused() == everything[48]


def test_a_line_says_from_where_on_products_are_much_less_alike(page: Page, engine: ToyEngine) -> None:
    found = page.search("red striped leather")
    scores = {hit.product_id: hit.score for hit in engine.search("red striped leather", k=48)}
    near = [one for one in found if scores[one] >= scores[found[0]] / 2]
    before = page.driver.execute_script(
        "const far = document.querySelector('.far');"
        "return far && [...document.querySelectorAll('#results li')].indexOf(far)"
    )
    assert before == (len(near) if len(near) < len(found) else None)


def test_suggestions_come_while_typing_and_can_be_chosen(page: Page, engine: ToyEngine) -> None:
    typed = next(iter(engine.products.values())).texts[0][:-2]
    page.one("#words").send_keys(typed)
    page.until("return document.querySelectorAll('#typing li').length > 0")
    wanted = engine.suggest(typed, k=6)
    assert [one.text for one in page.all("#typing li")] == wanted
    page.one("#words").send_keys(Keys.ARROW_DOWN)
    assert page.one("#words").get_attribute("aria-activedescendant") == "typing-0"
    page.one("#words").send_keys(Keys.ENTER)
    page.until_shown([hit.product_id for hit in engine.search(wanted[0], k=48)])
    assert page.one("#words").get_attribute("value") == wanted[0]
    assert not page.one("#typing").is_displayed()


def test_a_mistyped_word_is_said_and_the_right_one_offered(page: Page, engine: ToyEngine) -> None:
    page.search("erd bag")
    page.until("return document.getElementById('note').textContent.includes('Not known here: “erd”')")
    assert page.one("#note").text == "Not known here: “erd”, so it does not count. Did you mean red bag?"
    page.one("#note button").click()
    page.until_shown([hit.product_id for hit in engine.search("red bag", k=48)])
    assert page.one("#note").text == ""


def test_words_can_be_cleared_by_a_press(page: Page) -> None:
    page.search("red")
    page.one("#clear").click()
    page.until("return document.body.classList.contains('resting')")
    assert page.focused() == "words"
    assert not page.one("#clear").is_displayed()


def test_figures_are_shown_on_request_and_stay_so(page: Page) -> None:
    page.search("red")
    assert not page.one("#results .strip").is_displayed()
    page.one("#figures").click()
    assert page.one("#results .strip").text == "1.000"
    page.open(page.driver.current_url)
    page.until("return document.querySelectorAll('#results .tile').length > 0")
    assert page.one("#results .strip").is_displayed()
    page.one("#figures").click()


def test_the_reference_of_the_http_api_needs_no_other_host(page: Page, toy_server: ServerProcess) -> None:
    page.driver.get(toy_server.url + "/docs")
    page.until("return document.querySelectorAll('#endpoints section').length > 0")
    assert page.one("#get-search h2").text == "GET /search"
    assert "red dress" in page.one("#post-search pre").text
    hosts = page.driver.execute_script(
        "return [...new Set(performance.getEntriesByType('resource').map(one => new URL(one.name).host))]"
    )
    assert hosts == [toy_server.url.removeprefix("http://")]


def test_like_one_part(page: Page, engine: ToyEngine) -> None:
    product_id = page.search("red")[0]
    page.one("#results a").click()
    page.until("return document.querySelectorAll('#regions .near').length > 0")
    page.one("#see").click()
    page.one("#regions .near").click()
    page.until("return document.getElementById('status').textContent.includes('like this part')")
    assert page.shown() == [hit.product_id for hit in engine.similar_region(product_id, 0, k=48)]
    assert not page.all("#detail[open]")


def test_the_keyboard_does_everything(page: Page) -> None:
    found = page.search("red")

    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    page.until("return document.querySelectorAll('#typing li').length > 0")
    press(Keys.ESCAPE)
    press(Keys.ARROW_DOWN)
    assert page.focused() == str(found[0])
    press(Keys.ARROW_RIGHT)
    assert page.focused() == str(found[1])
    press(Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert page.focused() == "words"
    press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER)
    page.until("return document.getElementById('detail').open")
    assert page.one("#detail-name").text == f"Product {found[1]}"
    press(Keys.ARROW_RIGHT)
    page.until(
        "return document.getElementById('detail-name').textContent.endsWith(arguments[0])", str(found[2])
    )
    press(Keys.ESCAPE)
    focus = "return document.activeElement.closest('.tile')?.dataset.id === arguments[0]"
    page.until(focus, str(found[2]))
    assert not page.all("#detail[open]")
    press("/")
    assert page.focused() == "words"
    press(Keys.ESCAPE)
    page.until("return document.body.classList.contains('resting')")
    page.search("red")
    page.until("return document.querySelectorAll('#typing li').length > 0")
    press(Keys.ESCAPE, Keys.ARROW_DOWN, "m")
    page.until("return document.getElementById('status').textContent.includes('most like this one')")


def test_nothing_found_is_said(page: Page) -> None:
    page.one("#words").send_keys("zzzz<b>")
    page.until("return document.getElementById('message').textContent.includes('Not known here: “zzzz<b>”')")


def test_an_address_with_markup_stays_text(page: Page, toy_server: ServerProcess) -> None:
    page.open(toy_server.url + "/#q=" + "red%20%3Cimg%20src%3Dx%20onerror%3Ddocument.title%3D1%3E")
    page.until("return document.getElementById('status').textContent.includes('<img')")
    assert not page.all("#status img")


def test_a_broken_server_is_said_and_found_again(driven: Page, drawn_shop: Path) -> None:
    server = start_server("tests.service.toy", str(drawn_shop), "0")
    driven.open(server.url)
    found = driven.search("red")
    server.process.kill()
    server.close()
    driven.one("#words").send_keys(" bag")
    driven.until("return document.getElementById('message').textContent.includes('does not answer')")
    again = start_server("tests.service.toy", str(drawn_shop), server.url.rsplit(":", 1)[1])
    try:
        driven.one("#message button").click()
        driven.until("return document.querySelectorAll('#results .tile').length > 0")
        assert set(driven.shown()) >= set(found[:1])
        assert driven.one("#message").get_attribute("hidden")
    finally:
        again.process.kill()
        again.close()
        driven.complaints()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, toy_server: ServerProcess, tmp_path: Path, scheme: str) -> None:
    source = axe_source(tmp_path)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def violations() -> list[str]:
        page.driver.execute_script(source)
        page.until("return document.getAnimations().every(one => one.playState !== 'running')")
        told = page.driver.execute_async_script(
            "axe.run().then(found => arguments[0](found.violations.map(one => "
            "`${one.id}: ${one.help}: ${one.nodes.map(node => node.html).slice(0, 3).join(' ')}`)))"
        )
        return list(told)

    assert violations() == []
    page.search("red bag")
    page.one("#figures").click()
    assert violations() == []
    page.one("#figures").click()
    page.one("#results a").click()
    page.until("return document.querySelectorAll('#why-words button').length > 0")
    assert violations() == []
    page.one("#see").click()
    assert violations() == []
    page.driver.get(toy_server.url + "/docs")
    page.until("return document.querySelectorAll('#endpoints section').length > 0")
    assert violations() == []


def test_a_phone_shows_everything_without_scrolling_sideways(driven: Page, toy_server: ServerProcess) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driven.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        driven.open(toy_server.url)
        driven.search("red bag")
        driven.one("#filter-says").click()
        assert driven.one("#columns").is_displayed()
        panel = (
            "const at = document.querySelector('.panel').getBoundingClientRect(); return [at.left, at.right]"
        )
        left, right = driven.driver.execute_script(panel)
        assert 0 <= left < right <= 390
        driven.one("#words").click()
        driven.one("body").send_keys(Keys.ESCAPE)
        driven.until("return !document.getElementById('filter').open")
        fits = "return document.documentElement.scrollWidth <= innerWidth"
        assert driven.driver.execute_script(fits)
        driven.one("#results a").click()
        driven.until("return document.querySelectorAll('#regions li').length > 0")
        assert driven.driver.execute_script(fits)
    finally:
        driven.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
