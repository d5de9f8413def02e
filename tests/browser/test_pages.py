"""Every page: it is shown without an error, in light, and in dark on a phone, and axe finds nothing wrong."""

import asyncio
import re
from importlib import resources
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, ViewportSize, expect

from tests.browser.conftest import DESKTOP, PHONE, opened
from tests.e2e.test_serve_http import Served, served
from tests.stores.nodes import free_ports

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
# What stands on a page once it has its content.
PAGES = {
    "try": "Without steering",
    "taste": "What the model thinks this person likes",
    "concepts": "Horror",
    "features": "Rare ones, too",
    "scenarios": "New scenario",
    "model": "What falls short",
    "traffic": "Calls a second",
}


async def wrong(page: Page) -> list[str]:
    """What axe finds: the rule and where."""
    # As a debugger does: the page's policy lets no script in.
    await page.evaluate(AXE)
    found = await page.evaluate("async () => (await axe.run()).violations")
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)], ids=["light", "dark on a phone"]
)
async def test_every_page_is_readable(browser: Browser, server: Served, scheme: str, viewport: ViewportSize) -> None:
    # Rows that move are half transparent, and hard to read: not for long, and not for people who want less of it.
    context = {"color_scheme": scheme, "reduced_motion": "reduce"}
    async with opened(browser, server.http, viewport, **context) as page:
        await page.goto("#/try")
        await expect(page.get_by_text(re.compile(r"^\d+ events$"))).to_be_visible()  # of a random person
        for name, text in PAGES.items():
            await page.get_by_role("link", name=re.compile(f"^{name}$", re.IGNORECASE)).click()
            await expect(page.locator("main")).to_contain_text(text)
            await expect(page.locator("main .skeleton")).to_have_count(0)
            await expect(page.locator("main [role=alert]")).to_have_count(0)
            assert await wrong(page) == [], name
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= viewport["width"], f"{name} is wider than the screen"


async def test_no_other_script_runs_on_the_page(browser: Browser, server: Served) -> None:
    page = await browser.new_page()
    await page.goto(f"{server.http}/console/#/try")
    await expect(page.get_by_role("list", name="Steered")).to_be_visible()
    await page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.smuggled = 1';"
        " document.body.append(script) }"
    )
    assert await page.evaluate("() => window.smuggled") is None
    await page.close()


async def test_an_address_that_changes_while_the_first_page_starts_is_shown(page: Page) -> None:
    await page.add_init_script(
        "new MutationObserver((_, self) => document.querySelector('main')"
        " && (self.disconnect(), location.hash = '#/scenarios')).observe(document, {childList: true, subtree: true})"
    )
    await page.goto("#/model")
    await expect(page).to_have_title("Scenarios · Steersman")


async def test_what_is_set_before_the_first_history_comes_stays(page: Page) -> None:
    set_ = asyncio.Event()

    async def slow(route: Route) -> None:
        await set_.wait()
        await route.continue_()

    await page.route("**/ListHistories*", slow)
    await page.goto("#/try")
    await page.get_by_role("button", name="Horror", exact=True).click()
    slider = page.get_by_role("slider", name="Horror", exact=True)
    await expect(slider).to_be_visible()
    set_.set()
    await expect(page.get_by_role("list", name="Events, the latest first")).to_be_visible()
    await expect(slider).to_be_visible()


async def test_pages_go_on_when_the_server_is_back(browser: Browser, bundle_dir: Path, tmp_path: Path) -> None:
    """A restart while a page is open: it says so, keeps what was set, and goes on by itself."""
    flags = ("--http-port", str(free_ports(1)[0]), "--engines", "0")
    with served(bundle_dir, tmp_path, *flags) as first:
        async with opened(browser, first.http) as page:
            await page.goto("#/try")
            await page.get_by_role("button", name="Horror", exact=True).click()
            slider = page.get_by_role("slider", name="Horror", exact=True)
            await expect(slider).to_be_visible()
            # At rest: what the page asked for first has come.
            await expect(page.get_by_text("What it came down to")).to_be_visible()
            await asyncio.to_thread(first.end)
            await slider.press("End")
            await expect(page.get_by_text("The server does not answer.")).to_be_visible()
            with served(bundle_dir, tmp_path, *flags):
                await expect(page.get_by_text("The server does not answer.")).not_to_be_visible()
                await expect(page.get_by_text(re.compile(r"\d of 10 stay"))).to_be_visible()
                await expect(slider).to_have_value("2")
