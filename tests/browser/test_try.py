"""The page Try: sliders, lists, explanations, links."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.conftest import PHONE, opened
from tests.e2e.test_serve_http import Served

RECOMMEND = "**/steersman.v1.RecommendationService/*"


async def steering(page: Page, concept: str = "Horror") -> Locator:
    """The page with a slider for a concept, found by keyboard."""
    await page.goto("#/try")
    await expect(page.get_by_role("list", name="Steered").get_by_role("listitem")).to_have_count(10)
    await page.get_by_role("combobox", name="Genre, feature, title or words").fill(concept)
    await expect(page.get_by_role("option", name=re.compile(concept)).first).to_be_visible()
    await page.keyboard.press("Enter")
    slider = page.get_by_role("slider", name=re.compile(concept)).first
    await expect(slider).to_be_visible()
    return slider


async def titles(page: Page, name: str = "Steered") -> list[str]:
    return await page.get_by_role("list", name=name, exact=True).locator(".item-title").all_inner_texts()


async def moved(slider: Locator, value: float) -> None:
    """As a pointer does."""
    await slider.evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})) }",
        str(value),
    )


async def until_titled(page: Page, wanted: list[str]) -> None:
    async with asyncio.timeout(20):
        while await titles(page) != wanted:
            await asyncio.sleep(0.05)


async def test_a_slider_changes_the_list_and_leaves_the_plain_one(page: Page) -> None:
    slider = await steering(page)
    plain = await titles(page, "Without steering")
    await moved(slider, 2)
    await expect(page.get_by_text(re.compile(r"\d of 10 stay"))).to_be_visible()
    assert await titles(page) != plain
    assert await titles(page, "Without steering") == plain
    await moved(slider, 0)
    await expect(page.get_by_text("the same list")).to_be_visible()
    assert await titles(page) == plain


async def test_the_last_input_of_a_drag_wins(page: Page) -> None:
    slider = await steering(page)
    await moved(slider, 1.5)
    await expect(page.get_by_text(re.compile(r"\d of 10 stay"))).to_be_visible()
    await asyncio.sleep(0.6)  # until edits and receipt have come, too
    last = await titles(page)
    await moved(slider, -2)
    for step in range(40):
        await moved(slider, -2 + 3.5 * step / 39)
    await until_titled(page, last)


async def test_a_slow_answer_never_comes_after_a_later_one(page: Page) -> None:
    slider = await steering(page)
    plain = await titles(page)
    held = asyncio.Event()
    first = True

    async def hold(route) -> None:  # type: ignore[no-untyped-def]
        nonlocal first
        if first:
            first = False
            await held.wait()
        await route.continue_()

    await page.route(RECOMMEND, hold)
    await moved(slider, 2)
    await moved(slider, 0)
    held.set()
    await expect(page.get_by_text("the same list")).to_be_visible()
    assert await titles(page) == plain


async def test_keys_move_a_slider(page: Page) -> None:
    slider = await steering(page)
    await slider.focus()
    await page.keyboard.press("End")
    await expect(page.get_by_text(re.compile(r"\d of 10 stay"))).to_be_visible()
    assert await slider.input_value() == "2"
    await page.keyboard.press("Home")
    assert await slider.input_value() == "-2"


async def test_an_item_says_why_it_is_there(page: Page) -> None:
    await moved(await steering(page), 1)
    await page.get_by_role("list", name="Steered").get_by_role("button").first.click()
    why = page.locator("section", has=page.get_by_role("heading", name=re.compile("Why")))
    await expect(why.get_by_text(re.compile("Horror")).first).to_be_visible()
    amounts = [
        float(text.replace("−", "-"))
        for text in await why.locator(".bar-amount").all_inner_texts()
        if re.search(r"\d", text)
    ]
    assert len(amounts) > 3


async def test_the_address_restores_all(page: Page, browser: Browser, server: Served) -> None:
    slider = await steering(page)
    await moved(slider, 1.25)
    await expect(page.get_by_text(re.compile(r"\d of 10 stay"))).to_be_visible()
    await asyncio.sleep(1)
    before = await titles(page)
    async with opened(browser, server.http) as other:
        await other.goto(page.url)
        await expect(other.get_by_role("slider", name=re.compile("Horror")).first).to_have_value("1.25")
        await expect(other.get_by_text(re.compile(r"\d of 10 stay"))).to_be_visible()
        assert await titles(other) == before


@pytest.mark.parametrize("name", ["curl", "Python", "grpcurl"])
async def test_the_request_is_there_as_code(page: Page, name: str) -> None:
    await moved(await steering(page), 0.5)
    await page.get_by_role("button", name="Copy as code").click()
    await expect(page.locator("pre", has_text="genres:Horror").first).to_be_visible()
    await expect(page.get_by_role("button", name=f"Copy {name}")).to_be_visible()


async def test_on_a_phone_the_list_comes_first(browser: Browser, server: Served) -> None:
    async with opened(browser, server.http, PHONE) as page:
        slider = await steering(page)
        listed = await page.get_by_role("list", name="Steered").bounding_box()
        at = await slider.bounding_box()
        assert listed and at
        assert listed["y"] < at["y"]


async def test_a_history_of_ones_own(page: Page) -> None:
    await page.goto("#/try")
    await expect(page.get_by_role("list", name="Steered").get_by_role("listitem")).to_have_count(10)
    await page.get_by_role("button", name="New user").click()
    await page.get_by_role("combobox", name=re.compile("Add an item")).fill("Film 1")
    await page.get_by_role("option").first.click()
    await expect(page.get_by_role("list", name="Events, the latest first").get_by_role("listitem")).to_have_count(1)
