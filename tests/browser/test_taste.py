"""Taste: what a person changes about themselves, kept with a session, taken along, and forgotten."""

import json
from collections.abc import Sequence
from typing import Any

from playwright.async_api import Locator, Page, expect

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1 import session_service_pb2 as sessions
from tests.browser.links import link, requested
from tests.e2e.test_serve_http import Served

SESSIONS = "/steersman.v1.SessionService/"


def items_of(server: Served, count: int) -> list[str]:
    _, page = server.ask(json.dumps({"pageSize": count}), "/steersman.v1.ItemService/ListItems")
    return [item["itemId"] for item in page["items"]]


def begin(server: Served, session_id: str, item_ids: Sequence[str], disliked: Sequence[str] = ()) -> None:
    def event(item_id: str, kind: int) -> dict[str, Any]:
        return {"eventId": f"{kind}-{item_id}", "itemId": item_id, "kind": kind}

    events = [event(item_id, sessions.EVENT_KIND_CONSUMED) for item_id in item_ids]
    events += [event(item_id, sessions.EVENT_KIND_DISLIKED) for item_id in disliked]
    status, answer = server.ask(json.dumps({"sessionId": session_id, "events": events}), SESSIONS + "AppendEvents")
    assert status == 200, answer


def session(server: Served, session_id: str) -> tuple[int, Any]:
    status, answer = server.ask(json.dumps({"sessionId": session_id}), SESSIONS + "GetSession")
    return status, answer.get("session", {})


async def turn_down(page: Page) -> Locator:
    """Moves the first slider to its end, by keyboard, and waits for the list."""
    slider = page.get_by_role("slider").first
    await slider.focus()
    await page.keyboard.press("Home")
    await expect(page.get_by_role("list", name="The list with your changes")).to_be_visible()
    return slider


async def test_what_is_turned_down_stays_with_the_session_until_it_is_forgotten(page: Page, server: Served) -> None:
    *consumed, disliked = items_of(server, 9)
    begin(server, "taste-1", consumed, [disliked])
    await page.goto("#/taste")
    await page.get_by_role("button", name="Session", exact=True).click()
    await page.get_by_label("Session id").fill("taste-1")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("list", name="The list now").get_by_role("listitem")).to_have_count(10)
    await expect(page.get_by_role("region", name="Never shown again").get_by_role("listitem")).to_have_count(1)
    await turn_down(page)
    await page.get_by_role("button", name="Keep with the session").click()
    await expect(page.get_by_text("No changes")).to_be_visible()
    _, kept = session(server, "taste-1")
    assert [control["strength"] for control in kept["controls"]] == [-2]
    assert "feature" in kept["controls"][0]
    # It is what the slider begins with, and what another change is added to.
    await page.wait_for_url(lambda url: requested(url) == pb.RecommendRequest(session_id="taste-1", k=10))
    await page.reload()
    slider = page.get_by_role("slider").first
    await expect(slider).to_have_value("-2")
    await slider.focus()
    await page.keyboard.press("ArrowRight")
    await page.get_by_role("button", name="Keep with the session").click()
    await expect(page.get_by_text("No changes")).to_be_visible()
    _, kept = session(server, "taste-1")
    assert [round(control["strength"], 3) for control in kept["controls"]] == [-1.95]
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export").click()
    told = json.loads((await (await download.value).path()).read_bytes())
    assert (told["session_id"], told["history"], told["disliked_item_ids"]) == ("taste-1", consumed, [disliked])
    assert told["kept"][0]["control"]["feature"] == kept["controls"][0]["feature"]
    await page.get_by_role("button", name="Forget me").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("8 events")
    await expect(dialog).to_contain_text("1 kept change")
    await dialog.get_by_role("button", name="Cancel").click()
    assert session(server, "taste-1")[0] == 200
    await page.get_by_role("button", name="Forget me").click()
    await dialog.get_by_role("button", name="Forget", exact=True).click()
    await expect(page.get_by_text("The session taste-1 is forgotten.")).to_be_visible()
    assert session(server, "taste-1")[0] == 404


async def test_a_history_becomes_a_session_of_a_new_name_alone(page: Page, server: Served) -> None:
    history = items_of(server, 12)
    begin(server, "taste-taken", history[:2])
    await page.goto(link("taste", pb.RecommendRequest(history=pb.History(item_ids=history), k=10)))
    await turn_down(page)
    await page.get_by_role("button", name="Keep with a session").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Id of the session").fill("taste-taken")
    await dialog.get_by_role("button", name="Keep", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_contain_text("There is a session of this name already")
    assert session(server, "taste-taken")[1]["itemIds"] == history[:2]
    await dialog.get_by_label("Id of the session").fill("taste-new")
    await dialog.get_by_role("button", name="Keep", exact=True).click()
    await expect(page.get_by_text("Kept with the new session taste-new.")).to_be_visible()
    _, kept = session(server, "taste-new")
    assert kept["itemIds"] == history
    assert [control["strength"] for control in kept["controls"]] == [-2]


async def test_events_that_carry_a_taste_are_told_on_request(page: Page, server: Served) -> None:
    await page.goto(link("taste", pb.RecommendRequest(history=pb.History(item_ids=items_of(server, 12)), k=10)))
    await expect(page.get_by_role("slider").first).to_be_visible()
    await expect(page.get_by_text("What each event adds")).to_have_count(0)
    await page.get_by_role("button", name="Which events say so?").click()
    await page.get_by_role("group").filter(has_text="What each event adds").first.locator("summary").click()
    events = page.get_by_role("list", name="Events that change").first
    await expect(events.get_by_role("listitem").first).to_contain_text("%")


async def test_a_session_that_is_not_there_is_said(page: Page) -> None:
    await page.goto(link("taste", pb.RecommendRequest(session_id="taste-nobody")))
    await expect(page.get_by_text("There is no session “taste-nobody”")).to_be_visible()
