"""Every page: it is shown without an error, in light, in dark and on a phone, and axe finds nothing wrong."""

import re
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import DESKTOP, PHONE, opened
from tests.e2e.test_serve_http import Served

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
# What stands on a page once it has its content.
PAGES = {
    "try": "Without steering",
    "taste": "What the model thinks this person likes",
    "concepts": "Horror",
    "features": "What fires on these?",
    "scenarios": "New scenario",
    "model": "What falls short",
    "traffic": "Requests",
}


async def wrong(page: Page) -> list[str]:
    """What axe finds: the rule and where."""
    # As a debugger does: the page's policy lets no script in.
    await page.evaluate(AXE)
    found = await page.evaluate("async () => (await axe.run()).violations")
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE)], ids=["light", "dark", "phone"]
)
async def test_every_page_is_readable(browser: Browser, server: Served, scheme: str, viewport: object) -> None:
    async with opened(browser, server.http, viewport, color_scheme=scheme) as page:  # type: ignore[arg-type]
        await page.goto("#/try")
        for name, text in PAGES.items():
            await page.get_by_role("link", name=re.compile(f"^{name}$", re.IGNORECASE)).click()
            await expect(page.locator("main")).to_contain_text(text)
            await expect(page.locator("main .skeleton")).to_have_count(0)
            await expect(page.locator("main [role=alert]")).to_have_count(0)
            assert await wrong(page) == [], name
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= viewport["width"], f"{name} is wider than the screen"  # type: ignore[index]


async def test_the_policy_of_the_page_lets_no_other_script_in(page: Page) -> None:
    await page.goto("#/try")
    await expect(page.get_by_role("list", name="Steered")).to_be_visible()
    await page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.smuggled = 1';"
        " document.body.append(script) }"
    )
    assert await page.evaluate("() => window.smuggled") is None
