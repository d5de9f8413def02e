"""A real browser on the console of a real server with the tiny bundle.

Chromium is Debian's, or CHROMIUM; without one the tests are skipped, unless BROWSER_TESTS=required (as in CI).
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Error, Page, ViewportSize, async_playwright, expect

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
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in own:
        # One browser for all of them, and so one event loop.
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    if chromium() is None and os.environ.get("BROWSER_TESTS") != "required":
        for item in own:
            item.add_marker(pytest.mark.skip(reason="no Chromium is found (Debian: apt-get install chromium)"))


@pytest.fixture(scope="session")
def server(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(bundle_dir, tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, server: Served) -> AsyncIterator[Page]:
    """A page of the desktop's size, on which nothing may go wrong unseen."""
    async with opened(browser, server.http) as page:
        yield page


@asynccontextmanager
async def opened(browser: Browser, http: str, viewport: ViewportSize = DESKTOP, **context: Any) -> AsyncIterator[Page]:
    """A page on a console. At the end it is an error if a script failed, or if the browser refused anything."""
    own = await browser.new_context(viewport=viewport, base_url=f"{http}/console/", **context)
    page = await own.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    errors: list[str] = []

    def failed(error: Error) -> None:
        errors.append(str(error))

    def said(message: ConsoleMessage) -> None:
        # A call that was refused, or that no server took, is told to the browser's console as well; pages show it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            errors.append(message.text)

    page.on("pageerror", failed)
    page.on("console", said)
    yield page
    await own.close()
    assert errors == []
