"""Signing in to the console of a server that asks for tokens."""

import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.conftest import opened
from tests.e2e.test_serve_http import Served, served
from tests.service.identity.credentials import key_file


async def test_a_token_is_asked_for_kept_in_the_tab_and_forgotten(
    browser: Browser, bundle_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    keys = key_file(file, ada="steer@acme", root="admin")
    with served(bundle_dir, tmp_path / "data", "--api-keys", str(file), "--engines", "0") as server:
        async with opened(browser, server.http) as page:
            await page.goto("#/concepts")
            token, enter = page.get_by_label("Token"), page.get_by_role("button", name="Sign in")
            await token.fill("two\u00e9")
            await expect(enter).to_be_disabled()
            await token.fill("steersman_000000000000_wrong")
            await enter.click()
            await expect(page.get_by_role("alert")).to_contain_text("no key of this server, or was revoked")
            await token.fill(f" Bearer {keys['ada']}\n")
            await enter.click()
            await expect(page.get_by_role("link", name="More popular")).to_be_visible()
            await expect(token).to_have_count(0)
            assert keys["ada"] not in await page.evaluate("JSON.stringify(localStorage) + document.cookie")
            other = await page.context.new_page()  # knows nothing of it
            await other.goto("#/concepts")
            await expect(other.get_by_label("Token")).to_be_visible()
            await other.close()  # a page in the background is drawn once a second
            await page.goto("#/traffic")
            await page.reload()
            await expect(page.get_by_text("Calls a second").first).to_be_visible()
            save = await correct_a_label(page)
            await save.click()
            await expect(page.get_by_role("alert")).to_contain_text("role admin. You have the role steer")
            # Revoked while a dialog is open: what is written there is not lost.
            file.write_text(file.read_text().splitlines()[-1])
            until_revoked(server, keys["ada"])
            await save.click()
            await token.fill(keys["root"])
            await token.press("Enter")
            await expect(token).to_have_count(0)
            await expect(page.get_by_text("recorded under the name of your token")).to_be_visible()
            await save.click()
            await expect(page.get_by_text("Label by root, ")).to_be_visible()
            await page.get_by_role("button", name="Sign out").click()
            await expect(token).to_be_visible()


async def correct_a_label(page: Page) -> Locator:
    """Gives the button that saves it."""
    await page.goto("#/features?id=1")
    await page.get_by_role("button", name="Correct the label").click()
    await page.get_by_label("New label").fill("mine")
    return page.get_by_role("button", name="Save")


def until_revoked(server: Served, key: str) -> None:
    """The file is looked at once a second."""
    for _ in range(300):
        headers = {"authorization": f"Bearer {key}"}
        try:
            urllib.request.urlopen(urllib.request.Request(f"{server.http}/metrics.json", headers=headers)).close()
        except urllib.error.HTTPError:
            return
        time.sleep(0.1)
    raise AssertionError("the key holds still")
