"""A real browser without a window, for the tests of the page. Debian: `apt-get install chromium chromium-driver`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 15


def open_browser(*, width: int = 1280, height: int = 860) -> webdriver.Chrome:
    """Chromium; the test is skipped where it is absent."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{switch}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def axe_source(folder: Path) -> str:
    """The accessibility checker axe-core, from the package axe-playwright-python or by npm; the test is skipped where
    neither brings it."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is not None and package.origin is not None:
        return (Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no axe-playwright-python and no npm here to bring axe-core")
    try:
        subprocess.run([npm, "pack", "axe-core"], cwd=folder, check=True, capture_output=True, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm does not bring axe-core here")
    with tarfile.open(next(folder.glob("axe-core-*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode("utf-8")


class Page:
    """The page as somebody uses it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Opens it anew, and waits until it knows its shop."""
        self.driver.get("about:blank")
        self.driver.get(url)
        self.until("return document.getElementById('about').textContent !== ''")

    def until(self, script: str, *values: object) -> object:
        """Waits until a script gives something true, and gives that."""
        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.05).until(
            lambda driver: driver.execute_script(script, *values), message=script
        )

    def one(self, selector: str) -> WebElement:
        """The first element that a selector names."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All elements that a selector names."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def search(self, words: str) -> list[str]:
        """Types words; the ids of the photos that come."""
        box = self.one("#words")
        box.clear()
        box.send_keys(words)
        self.until(
            "return document.getElementById('status').textContent.includes(`“${arguments[0]}”`)", words
        )
        return self.shown()

    def until_shown(self, ids: list[str]) -> None:
        """Waits until these products are on the page, in this order."""
        self.until(
            "return JSON.stringify([...document.querySelectorAll('#results .tile')].map(tile => tile.dataset.id))"
            " === arguments[0]",
            json.dumps([str(one) for one in ids], separators=(",", ":")),
        )

    def shown(self) -> list[str]:
        """The ids of the products on the page, in their order."""
        script = "return [...document.querySelectorAll('#results .tile')].map(tile => tile.dataset.id)"
        return list(self.driver.execute_script(script))

    def focused(self) -> str:
        """What has the focus: the id of a product in the grid, or of an element."""
        return str(
            self.driver.execute_script(
                "const at = document.activeElement; return at.closest('.tile')?.dataset.id ?? at.id"
            )
        )

    def complaints(self) -> list[str]:
        """What the browser's console holds of errors."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
