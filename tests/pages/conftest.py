"""A headless browser, which has to be there where the tests are run for good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1400,1200"
).split()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, driven by selenium; the tests fail without it under CI, and are skipped elsewhere."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        why = "chromium and chromedriver are missing (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI") or os.environ.get("METEORS_C_REQUIRE_BROWSER"):
            pytest.fail(why)
        pytest.skip(why)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield opened
    finally:
        opened.quit()


class Page:
    """A report page in the browser."""

    def __init__(self, browser: Any, path: Path) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        browser.get_log("browser")  # what earlier pages left
        browser.get(path.as_uri())
        WebDriverWait(browser, 60).until(lambda _: self.run("return document.body.dataset.ready") == "true")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]

    def click_at_pixel(self, number: int, row: int, column: int) -> None:
        """Click with the mouse in the middle of a pixel of a map."""
        script = """
            const plot = document.getElementById("map-" + arguments[0]);
            plot.scrollIntoView({ block: "center" });
            const box = plot.getBoundingClientRect(), x = plot._fullLayout.xaxis, y = plot._fullLayout.yaxis;
            return [box.left + x._offset + x.d2p(arguments[2]), box.top + y._offset + y.d2p(arguments[1])];
        """
        x, y = self.run(script, number, row, column)
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        self.run("return new Promise(done => setTimeout(done, 150))")  # the figure notices where the mouse is
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **at})
        self.run("return new Promise(done => setTimeout(done, 400))")  # else two clicks are a double one

    def traces(self, name: str, number: int) -> list[dict[str, Any]]:
        return self.run(
            "return document.getElementById(arguments[0])._fullData.map(t => ({x: Array.from(t.x || []), "
            "y: Array.from(t.y || []), opacity: t.opacity, zmin: t.zmin, zmax: t.zmax}))",
            f"{name}-{number}",
        )


@pytest.fixture
def page(browser: Any) -> Any:
    """What opens a page."""
    return lambda path: Page(browser, path)
