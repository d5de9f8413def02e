"""Scenarios in the console: made, previewed, published against others, rolled back, deleted and brought back."""

import json
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.conftest import PHONE, opened
from tests.e2e.test_serve_http import Served

SCENARIOS = "/steersman.v1.ScenarioService/"
HORROR = {"concept": "genres:Horror", "operation": "OPERATION_ADD", "strength": 0.5}


def call(server: Served, method: str, **request: Any) -> tuple[int, Any]:
    return server.ask(json.dumps(request), SCENARIOS + method)


def put(server: Served, author: str = "Ben", **scenario: Any) -> None:
    status, answer = call(server, "PutScenario", scenario=scenario, author=author)
    assert status == 200, answer


def kept(server: Served, name: str) -> Any:
    return call(server, "GetScenario", name=name)[1]["scenario"]


async def add_horror(page: Page) -> Locator:
    """By keyboard alone; gives its slider."""
    await page.get_by_role("combobox", name="Add something to steer").fill("horror")
    found = page.get_by_role("listbox", name="Add something to steer").get_by_role("option")
    await expect(found.first).to_contain_text("Horror")
    await page.keyboard.press("Enter")
    return page.get_by_role("slider", name="Horror", exact=True)


async def test_a_new_one_is_previewed_and_published(page: Page, server: Served) -> None:
    await page.goto("#/scenarios?view=new")
    name, publish = page.get_by_label("Name, as apps"), page.get_by_role("button", name="Publish version 1")
    await name.fill("two words")
    await expect(publish).to_be_disabled()
    await name.fill("made-here")
    slider = await add_horror(page)
    await slider.press("Home")
    await expect(page.get_by_role("list", name="What the controls do")).to_contain_text("Horror")
    await page.get_by_label("Your name").fill("Ada")
    await publish.click()
    await expect(page.get_by_text("As published.")).to_be_visible()
    made = kept(server, "made-here")
    assert (made["version"], made["updatedBy"], made["controls"]) == ("1", "Ada", [{**HORROR, "strength": -2}])
    assert not made.keys() & {"filters", "composition", "policy"}
    await page.get_by_role("link", name="Try it").click()
    await expect(page).to_have_title("Try · Steersman")


async def test_changes_that_are_not_published_stay(page: Page, server: Served) -> None:
    put(server, name="half-done", controls=[HORROR])
    await page.goto("#/scenarios?name=half-done")
    await page.get_by_label("What it is for").fill("half done")
    await page.get_by_role("link", name="All scenarios").click()
    await expect(page.get_by_text("not published: changes of yours")).to_be_visible()
    asked = list[str]()

    async def accept(dialog: Any) -> None:
        asked.append(dialog.type)
        await dialog.accept()

    page.on("dialog", accept)
    await page.reload()
    assert asked == ["beforeunload"]
    await page.goto("#/scenarios?name=half-done")
    await expect(page.get_by_label("What it is for")).to_have_value("half done")
    await page.get_by_role("button", name="Undo all").click()
    await expect(page.get_by_label("What it is for")).to_have_value("")
    await page.reload()
    assert asked == ["beforeunload"]


@pytest.mark.parametrize(("choice", "description"), [("Put mine on top", "mine"), ("Take theirs", "theirs")])
async def test_nobody_is_overwritten_unseen(page: Page, server: Served, choice: str, description: str) -> None:
    name = f"shared-{description}"
    put(server, name=name, controls=[HORROR])
    await page.goto(f"#/scenarios?name={name}")
    await page.get_by_label("What it is for").fill("mine")
    put(server, name=name, version="1", description="theirs", controls=[HORROR])
    await page.get_by_role("button", name="Publish version 2").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("region", name="Theirs")).to_contain_text("theirs")
    await expect(dialog.get_by_role("region", name="Mine")).to_contain_text("mine")
    await dialog.get_by_role("button", name=choice).click()
    await expect(page.get_by_text("As published.")).to_be_visible()
    await expect(page.get_by_label("What it is for")).to_have_value(description)
    assert kept(server, name)["description"] == description


async def test_what_was_deleted_is_told_and_brought_back(page: Page, server: Served) -> None:
    put(server, name="row", description="first", controls=[HORROR])
    put(server, name="row", version="1", description="second", composition={"pinnedItemIds": ["1"]})
    await page.goto("#/scenarios?name=row&view=changes")
    second = page.get_by_role("article", name="version 2")
    await expect(second.get_by_role("deletion").first).to_contain_text("first")
    await expect(second.get_by_role("insertion").first).to_contain_text("second")
    await page.get_by_role("button", name="Roll back to this: version 1").click()
    await page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    await expect(page.get_by_role("article", name="version 3")).to_contain_text("published now")
    assert (kept(server, "row")["description"], kept(server, "row")["controls"]) == ("first", [HORROR])
    await page.get_by_role("button", name="Delete", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete version 3").click()
    await expect(page.get_by_role("link", name="New scenario")).to_be_visible()
    assert call(server, "GetScenario", name="row")[0] == 404
    await page.goto("#/scenarios?name=row")
    await page.get_by_role("button", name="Roll back to this: version 2").click()
    await page.get_by_role("dialog").get_by_role("button", name="Publish again").click()
    await expect(page.get_by_label("What it is for")).to_have_value("second")
    assert kept(server, "row")["version"] == "1"


async def test_what_the_server_does_not_take_is_said_beside_the_form(page: Page, server: Served) -> None:
    put(server, name="wrong", controls=[HORROR])
    await page.goto("#/scenarios?name=wrong")
    strength = page.get_by_role("spinbutton", name="Strength of Horror")
    await page.get_by_label("How Horror is steered").select_option("atLeast")
    await expect(strength).to_have_count(0)
    await page.get_by_label("Strongest push allowed").fill("1000")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("region", name="Preview").get_by_role("alert")).to_contain_text("strength")
    await page.get_by_role("button", name="Publish version 2").click()
    await expect(page.get_by_role("region", name="Publish").get_by_role("alert")).to_contain_text("strength")
    assert kept(server, "wrong")["version"] == "1"


async def test_on_a_phone_the_preview_is_above_the_form(browser: Browser, server: Served) -> None:
    put(server, name="small", controls=[HORROR])
    async with opened(browser, server.http, PHONE) as page:
        await page.goto("#/scenarios?name=small")
        preview = await page.get_by_role("region", name="Preview").bounding_box()
        form = await page.get_by_role("region", name="Controls").bounding_box()
        assert preview is not None
        assert form is not None
        assert preview["y"] + preview["height"] <= form["y"]
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
