"""A real browser on the console of a real server with the tiny bundle.

Chromium is Debian's, or STEERSMAN_CHROMIUM; without one the tests are skipped, unless STEERSMAN_BROWSER_TESTS=required (as in CI).
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from tests.e2e.test_serve_http import Served, served

# It runs as root in containers, and asks no one outside.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Machines that run tests are busy.
TIMEOUT_MS = 30_000
expect.set_options(timeout=TIMEOUT_MS)
DESKTOP, PHONE = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)


def chromium() -> str | None:
    """Where it is; None if there is none."""
    named = os.environ.get("STEERSMAN_CHROMIUM")
    return named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if chromium() is None and os.environ.get("STEERSMAN_BROWSER_TESTS") != "required":
        skip = pytest.mark.skip(reason="no Chromium is found (Debian: apt-get install chromium)")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="package")
def server(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(bundle_dir, tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser, server: Served) -> AsyncIterator[Page]:
    """A page of the desktop's size, on which nothing may go wrong unseen."""
    async with opened(browser, server.http) as page:
        yield page


class opened:
    """A page on a console. At the end it is an error if a script failed, or the browser refused anything."""

    def __init__(self, browser: Browser, http: str, viewport: ViewportSize = DESKTOP, **context: Any) -> None:
        self._browser, self._http, self._viewport, self._context = browser, http, viewport, context
        self.errors: list[str] = []

    async def __aenter__(self) -> Page:
        context = await self._browser.new_context(viewport=self._viewport, base_url=f"{self._http}/console/", **self._context)
        page = await context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self._page = page
        return page

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._page.context.close()
        # A call that the server refused, or that no server took, is told to the console as well; pages show it.
        errors = [error for error in self.errors if "Failed to load resource" not in error]
        if kind is None:
            assert errors == []
