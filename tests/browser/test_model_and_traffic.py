"""Pages Model and Traffic: what is served and how good it is, and what the server is doing."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect

from steersman_service.bundle.files import read_manifest
from tests.browser.conftest import opened
from tests.e2e.test_serve_http import Served, served
from tests.service.bundle.test_bundle import resign

# Until a reading has been taken, and the next one.
TWO_READINGS = 2 * 2000


async def test_the_model_says_how_good_it_is_and_what_falls_short(page: Page) -> None:
    await page.goto("#/model")
    await expect(page.get_by_role("region", name="What is served")).to_contain_text("60")
    accuracy = page.get_by_role("region", name="NDCG@10")
    await expect(accuracy.get_by_role("term")).to_have_text(
        ["This model", "The same, seen items left in", "The most popular items"]
    )
    await expect(page.get_by_role("region", name="What falls short").get_by_role("listitem").first).to_be_visible()
    await page.get_by_text("The same as a table").click()
    concepts = page.get_by_role("region", name="What concepts do and cost")
    await expect(concepts.locator("tbody tr")).to_have_count(await concepts.locator("circle").count())
    releases = page.get_by_role("region", name="Releases")
    await expect(releases.get_by_role("listitem")).to_have_text(re.compile("answers all calls"))


async def test_traffic_of_the_server_is_counted(page: Page, server: Served) -> None:
    await page.goto("#/traffic")
    lists = page.get_by_role("row", name="Lists a second").get_by_role("cell")
    await expect(lists).to_have_text("0.0")
    for _ in range(20):
        server.ask()
    await expect(lists).not_to_have_text("0.0")
    await expect(page.get_by_role("row", name="Half of all lists").get_by_role("cell")).to_contain_text("ms")
    await expect(page.locator("canvas")).to_have_count(3)


async def test_what_traffic_lacks_is_said(page: Page) -> None:
    answer: dict[str, Any] = {"status": 503}

    async def reply(route: Route) -> None:
        await (route.fulfill(**answer) if answer["status"] else route.abort())

    await page.route("**/metrics.json", reply)
    await page.clock.install()
    await page.goto("#/traffic")
    for status, said in ((503, "its metrics do not"), (0, "does not answer"), (404, "does not show its traffic")):
        answer["status"] = status
        await page.clock.run_for(TWO_READINGS)
        await expect(page.get_by_role("main")).to_contain_text(said)


async def test_traffic_is_not_read_while_nobody_looks(page: Page) -> None:
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url) if "metrics.json" in request.url else None)
    await page.clock.install()
    await page.goto("#/traffic")
    await expect(page.locator("canvas")).to_have_count(3)
    await page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await expect(page.get_by_role("main")).to_contain_text("Paused")
    before = len(asked)
    await page.clock.run_for(10 * TWO_READINGS)
    assert len(asked) == before
    await page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.get_by_role("main")).not_to_contain_text("Paused")


@pytest.fixture
def folder(bundle_dir: Path, tmp_path: Path) -> Path:
    """Three bundles, by their versions, and a link to the first. The latest is broken."""
    folder = tmp_path / "bundles"
    first = Path(shutil.copytree(bundle_dir, folder / bundle_dir.name))
    for month in (2, 3):
        other = Path(shutil.copytree(first, folder / "other"))
        resign(other, lambda manifest, month=month: manifest.update(created=f"2026-{month:02}-01T00:00:00Z"))  # type: ignore[misc]
        other = other.rename(folder / read_manifest(other).version)
    (other / "golden.npz").write_bytes(b"x")
    (folder / "current").symlink_to(first.name)
    return folder


async def test_a_bundle_is_tried_promoted_and_taken_back(browser: Browser, folder: Path, tmp_path: Path) -> None:
    first, flags = os.readlink(folder / "current"), ["--bundle-watch-seconds", "0", "--engines", "1"]
    with served(folder / "current", tmp_path / "data", *flags) as server:
        async with opened(browser, server.http) as page:
            await page.goto("#/model")
            card = page.get_by_role("region", name="Releases")
            listed = card.get_by_role("listitem")
            await card.get_by_label("Bundle").select_option(index=0)
            await card.get_by_role("button", name="Try it as canary").click()
            await expect(card.get_by_role("alert")).to_contain_text("golden.npz")
            await expect(listed.last).to_contain_text("was refused as canary")
            await card.get_by_label("Bundle").select_option(index=1)
            await card.get_by_role("button", name="Try it as canary").click()
            await expect(listed.nth(1)).to_contain_text("answers 5% of sessions, as canary")
            await card.get_by_role("spinbutton").first.fill("40")
            await card.get_by_role("button", name="Set the share").click()
            await expect(listed.first).to_contain_text("the other 60%")
            await card.get_by_role("button", name="Promote it").click()
            await page.get_by_role("dialog").get_by_role("button", name="Promote the canary").click()
            await expect(card).to_contain_text("These pages still show")
            assert os.readlink(folder / "current") != first
            await card.get_by_role("button", name="Roll back to").click()
            await page.get_by_role("dialog").get_by_role("button", name="Roll back to").click()
            await expect(card).not_to_contain_text("These pages still show")
            assert os.readlink(folder / "current") == first
