"""A photo is chosen, dropped or pasted on the page; words narrow it, and it can be taken away."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

from shopwindow.search.hits import SearchRequest
from tests.service.browser import Page, axe_source
from tests.service.conftest import ServerProcess
from tests.service.toy import ToyEngine

pytestmark = pytest.mark.slow

_EVENT = """
const [kind, text, type] = arguments, files = new DataTransfer();
files.items.add(new File([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))], "photo", { type }));
const what = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: files, bubbles: true, cancelable: true })
  : new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true });
return !document.dispatchEvent(what);
"""


def photo_of(engine: ToyEngine, row: int) -> Path:
    """The photo of a product."""
    path = list(engine.products.values())[row].photo
    assert isinstance(path, Path)
    return path


def ids(engine: ToyEngine, path: Path, words: str = "", share: float = 0.5) -> list[str]:
    """What the engine finds for a photo."""
    photo = engine.encode_photo(path.read_bytes())
    (hits,) = engine.search_many([SearchRequest(words, photo=photo, share=share, k=48)])
    return [str(hit.product_id) for hit in hits]


def hand_over(page: Page, kind: str, path: Path, media_type: str = "image/jpeg") -> bool:
    """Drops or pastes a file; whether the page took it."""
    text = base64.b64encode(path.read_bytes()).decode()
    return bool(page.driver.execute_script(_EVENT, kind, text, media_type))


def test_a_chosen_photo_finds_what_is_like_it_and_words_narrow_it(page: Page, engine: ToyEngine) -> None:
    path = photo_of(engine, 3)
    page.one("#file").send_keys(str(path))
    page.until_shown(ids(engine, path))
    assert page.one("#status").text == "The 48 products most like your photo"
    page.until("return document.getElementById('asked-photo').naturalWidth > 0")
    assert not page.one("#share").is_displayed()
    page.one("#words").send_keys("red dress")
    page.until_shown(ids(engine, path, "red dress"))
    page.one("#share").send_keys(Keys.ARROW_RIGHT * 3)
    page.until_shown(ids(engine, path, "red dress", share=0.8))
    assert ids(engine, path, "red dress", share=0.8) != ids(engine, path, "red dress")
    page.one("#remove-photo").send_keys(Keys.ENTER)
    page.until_shown([str(hit.product_id) for hit in engine.search("red dress", k=48)])
    assert not page.one("#asked").is_displayed()
    assert page.focused() == "words"


def test_a_large_photo_is_made_smaller_before_it_is_sent(
    page: Page, engine: ToyEngine, tmp_path: Path
) -> None:
    with Image.open(photo_of(engine, 3)) as image:
        image.resize((3000, 2400)).save(tmp_path / "large.bmp")
    script = """
    window.sent = [];
    const send = window.fetch;
    window.fetch = (path, how) => { if (how?.body) window.sent.push(how.body); return send(path, how); };
    """
    page.driver.execute_script(script)
    page.one("#file").send_keys(str(tmp_path / "large.bmp"))
    page.until("return document.querySelectorAll('#results .tile').length > 0")
    kind, size = page.driver.execute_script("return [sent[0].type, sent[0].size]")
    assert kind == "image/jpeg"
    assert size < 500_000 < (tmp_path / "large.bmp").stat().st_size
    assert set(page.shown()[:3]) <= set(ids(engine, photo_of(engine, 3))[:6])


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_is_dropped_or_pasted(page: Page, engine: ToyEngine, way: str) -> None:
    path = photo_of(engine, 8)
    if way == "drop":
        assert hand_over(page, "dragover", path)
        assert page.one("#drop").is_displayed()
    assert hand_over(page, way, path)
    page.until_shown(ids(engine, path))
    assert not page.one("#drop").is_displayed()


def test_what_is_no_photo_is_told(page: Page, engine: ToyEngine, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("milk")
    assert hand_over(page, "drop", tmp_path / "list.txt", "text/plain")
    page.until("return document.getElementById('hint').textContent.startsWith('That is no photo')")
    assert page.shown() == []
    assert not hand_over(page, "paste", tmp_path / "list.txt", "text/plain")


def test_a_broken_photo_is_told_and_can_be_taken_away(
    driven: Page, toy_server: ServerProcess, tmp_path: Path
) -> None:
    driven.open(toy_server.url)
    Image.effect_noise((300, 300), 80).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:3000])
    driven.one("#file").send_keys(str(tmp_path / "cut.jpg"))
    driven.until("return document.getElementById('message').textContent.includes('truncated')")
    driven.one("#message button").click()
    driven.until("return document.body.classList.contains('resting')")
    assert driven.complaints()


def test_back_returns_to_a_photo_and_a_reload_forgets_it(page: Page, engine: ToyEngine) -> None:
    first, second = photo_of(engine, 1), photo_of(engine, 2)
    for path in (first, second):
        page.one("#file").send_keys(str(path))
        page.until_shown(ids(engine, path))
    page.driver.back()
    page.until_shown(ids(engine, first))
    page.one(f"[data-id='{page.shown()[1]}'] button").click()
    page.until("return document.getElementById('status').textContent.includes('most like this one')")
    assert not page.one("#asked").is_displayed()
    page.driver.back()
    page.until_shown(ids(engine, first))
    page.driver.refresh()
    page.until("return document.getElementById('about').textContent !== ''")
    assert page.shown() == []
    assert not page.one("#asked").is_displayed()


def test_titles_stand_under_photos_and_above_a_product(page: Page, engine: ToyEngine) -> None:
    (found,) = engine.search("dress", k=1)
    title = engine.products[found.product_id].title
    assert title
    page.search("dress")
    assert page.one("#results .title").text == title
    spoken = page.one("#results a").accessible_name
    assert (spoken.startswith(f"{title} "), spoken.endswith(", place 1")) == (True, True)
    page.one("#results .tile a").click()
    page.until("return document.getElementById('detail-name').textContent === arguments[0]", title)
    assert found.product_id in page.one("#detail-id").text


def test_the_photo_can_be_reached_by_keys_and_passes_the_accessibility_check(
    page: Page, engine: ToyEngine, tmp_path: Path
) -> None:
    page.one("#words").send_keys(Keys.TAB)
    assert page.focused() == "file"
    page.one("#file").send_keys(str(photo_of(engine, 3)))
    page.one("#words").send_keys("red")
    page.until("return document.getElementById('status').textContent.includes('“red”')")
    source = axe_source(tmp_path)
    page.driver.execute_script(source)
    wrong = page.driver.execute_async_script(
        "const done = arguments[0]; axe.run().then((all) => done(all.violations.map((one) => one.id)))"
    )
    assert wrong == []
