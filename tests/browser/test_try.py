"""The page Try: whose list, what steers it, and why."""

import asyncio
import base64
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.request import Request, urlopen

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Locator, Page, Route, expect

from steersman.v1.control_pb2 import OPERATION_ADD, Control, Goal, ShareGoal
from steersman.v1.explanation_service_pb2 import ExplainRequest, ExplainResponse
from steersman.v1.recommendation_service_pb2 import Filters, History, RecommendRequest, RecommendResponse
from tests.browser.conftest import PHONE, opened
from tests.browser.links import requested
from tests.e2e.test_serve_http import Served

HISTORY = History(item_ids=["100", "104", "107", "111"])
HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)
SEARCH = "Genre, feature, title or words"


def link(request: RecommendRequest) -> str:
    """Of the page, below the console's address."""
    text = base64.urlsafe_b64encode(request.SerializeToString()).decode().rstrip("=")
    return f"#/try?r={text}"


def steered_by(*controls: Control) -> RecommendRequest:
    return RecommendRequest(history=HISTORY, controls=controls, k=6)


def answer(server: Served, request: RecommendRequest) -> RecommendResponse:
    return RecommendResponse.FromString(_call(server, "RecommendationService/Recommend", request.SerializeToString()))


def item_ids(server: Served, request: RecommendRequest) -> list[str]:
    return [item.item_id for item in answer(server, request).items]


def _call(server: Served, method: str, body: bytes) -> bytes:
    request = Request(f"{server.http}/steersman.v1.{method}", body, {"content-type": "application/proto"})
    with urlopen(request) as response:
        return bytes(response.read())


def rows(page: Page, name: str = "Steered") -> Locator:
    return page.get_by_role("list", name=name, exact=True).locator("> li")


def found(page: Page) -> Locator:
    """By the search field that is open."""
    return page.locator("[role=listbox]:not([hidden]) [role=option]")


async def shows(page: Page, wanted: Sequence[str], name: str = "Steered") -> None:
    """Waits until a list is that of these items."""
    for place, item_id in enumerate(wanted):
        await expect(rows(page, name).nth(place)).to_have_attribute("data-id", item_id)
    await expect(rows(page, name)).to_have_count(len(wanted))


def with_strength(strength: float) -> RecommendRequest:
    return steered_by(Control(concept="genres:Horror", operation=OPERATION_ADD, strength=strength))


async def test_a_control_is_found_and_turned_by_keyboard_alone(page: Page, server: Served) -> None:
    await page.goto(link(steered_by()))
    plain = item_ids(server, steered_by())
    await shows(page, plain)
    await page.get_by_role("combobox", name=SEARCH).focus()
    await page.keyboard.type("horror")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("slider", name="Horror", exact=True)).to_be_focused()
    await page.keyboard.press("End")
    wanted = item_ids(server, with_strength(2))
    assert wanted != plain
    await shows(page, wanted)
    await shows(page, plain, "Without steering")
    stay = len(set(wanted) & set(plain))
    await expect(page.get_by_text(f"{stay} of 6 stay, {6 - stay} new")).to_be_visible()


async def test_the_last_input_wins_over_slow_answers_to_earlier_ones(page: Page, server: Served) -> None:
    await page.goto(link(steered_by(HORROR)))
    await shows(page, item_ids(server, steered_by(HORROR)))
    # The whole answer, which comes once the slider rests.
    await expect(page.get_by_text("Share of the list")).to_be_visible()
    in_flight, most_in_flight, delays = 0, 0, iter([0.6, 0.3])

    def count(call: Any, step: int) -> None:
        nonlocal in_flight, most_in_flight
        if call.url.endswith("/Recommend"):
            in_flight += step
            most_in_flight = max(most_in_flight, in_flight)

    async def slow(route: Route) -> None:
        await asyncio.sleep(next(delays, 0))
        # The page may have given it up meanwhile.
        with suppress(Error):
            await route.continue_()

    page.on("request", lambda call: count(call, 1))
    page.on("requestfinished", lambda call: count(call, -1))
    page.on("requestfailed", lambda call: count(call, -1))
    await page.route("**/Recommend", slow)
    await page.get_by_role("slider", name="Horror", exact=True).focus()
    for key in ("End", "Home", "PageUp", "Home"):
        await page.keyboard.press(key)
    await shows(page, item_ids(server, with_strength(-2)))
    await page.wait_for_timeout(1000)
    await shows(page, item_ids(server, with_strength(-2)))
    assert most_in_flight == 1


async def test_a_goal_shows_what_was_reached(page: Page, server: Served) -> None:
    await page.goto(link(steered_by(HORROR)))
    await page.get_by_label("How Horror is set").select_option("Goal: at least a share")
    goal = Control(concept="genres:Horror", operation=OPERATION_ADD, goal=Goal(share=ShareGoal(at_least=0.4)))
    (receipt,) = answer(server, steered_by(goal)).receipt.controls
    shares = f"Share of the list {receipt.share_before:.0%} → {receipt.share_after:.0%}"
    await expect(page.get_by_text(f"{shares} · strength +{receipt.applied_strength:.2f} found")).to_be_visible()


async def test_a_goal_out_of_reach_says_so(page: Page) -> None:
    # Of the 60 films few are left, none of them a comedy.
    request = steered_by(
        Control(concept="genres:Comedy", operation=OPERATION_ADD, goal=Goal(share=ShareGoal(at_least=0.9)))
    )
    request.filters.attributes.add(attribute="genres", any_of=["War"])
    await page.goto(link(request))
    await expect(page.get_by_text("Not reachable: best was")).to_be_visible()


async def test_an_account_sums_to_the_score(page: Page, server: Served) -> None:
    request = steered_by(HORROR)
    await page.goto(link(request))
    wanted = item_ids(server, request)
    await shows(page, wanted)
    await rows(page).nth(1).get_by_role("button").focus()
    await page.keyboard.press("Enter")
    explained = ExplainResponse.FromString(
        _call(server, "ExplanationService/Explain", ExplainRequest(request=request).SerializeToString())
    )
    (account,) = (each for each in explained.accounts if each.item_id == wanted[1])
    bars = page.get_by_role("list", name=f"What the score of {account.title} is made of")
    shown = number(await page.locator(".try-sum strong").inner_text())
    amounts = [number(text) for text in await bars.locator(".bar-amount").all_inner_texts()]
    assert shown == pytest.approx(account.score, abs=0.006)
    assert sum(amounts) == pytest.approx(account.score, abs=0.005 * len(amounts) + 0.006)
    assert f"Steering: Horror{account.controls[0]:+.2f}".replace("-", "−") in (await bars.inner_text()).replace(
        "\n", ""
    )


def number(text: str) -> float:
    return float(text.replace("−", "-"))


async def test_what_would_bring_an_item_in_is_applied(page: Page, server: Served) -> None:
    request = steered_by()
    ranked = item_ids(server, RecommendRequest(history=HISTORY, k=12))
    await page.goto(link(request))
    await page.get_by_role("combobox", name="Why not").fill(ranked[6])
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="The gentlest control").click()
    await page.get_by_role("button", name="Apply").click()
    await expect(rows(page).and_(page.locator(f'[data-id="{ranked[6]}"]'))).to_be_visible()
    await expect(page.get_by_role("heading", name="What would take it off the list?")).to_be_visible()


async def test_the_address_restores_everything(page: Page, server: Served) -> None:
    request = steered_by(HORROR, Control(words="crime", operation=OPERATION_ADD, strength=-0.75))
    request.filters.CopyFrom(Filters(include_seen=True, deny_item_ids=["120"]))
    request.composition.diversity = 0.3
    await page.goto(link(request))
    wanted = item_ids(server, request)
    await shows(page, wanted)
    await rows(page).nth(2).get_by_role("button").click()
    await page.get_by_role("slider", name="Horror", exact=True).press("Home")
    request.controls[0].strength = -2
    await shows(page, item_ids(server, request))
    # The address follows once the slider rests.
    await page.wait_for_url(lambda url: requested(url).controls[0].strength == -2)
    await page.reload()
    await shows(page, item_ids(server, request))
    await expect(page.get_by_role("slider", name="Horror", exact=True)).to_have_value("-2")
    await expect(page.get_by_role("spinbutton", name='Strength of "crime"')).to_have_value("-0.75")
    await expect(page.get_by_role("checkbox", name="Also items of the history")).to_be_checked()
    await expect(page.get_by_role("slider", name="Variety")).to_have_value("0.3")
    await expect(page.locator(".try-why-title")).to_contain_text("Film")


async def test_copied_code_gives_the_same_list(page: Page, server: Served) -> None:
    goal = Control(concept="genres:War", operation=OPERATION_ADD, goal=Goal(share=ShareGoal(at_least=0.3)))
    request = steered_by(HORROR, goal, Control(words="it's crime", operation=OPERATION_ADD, strength=0.3))
    request.filters.attributes.add(attribute="genres", any_of=["Horror", "War"])
    await page.goto(link(request))
    titles = [item.title for item in answer(server, request).items]
    await page.get_by_role("button", name="Copy as code").click()
    await page.get_by_label("Address of gRPC").fill(server.grpc)
    curl, python = [await page.get_by_label(name, exact=True).inner_text() for name in ("curl", "Python")]
    assert re.findall(r'"title": ?"([^"]*)"', await output("bash", "-c", curl)) == titles
    assert (await output(sys.executable, "-c", python)).splitlines() == titles


async def output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def test_a_history_of_ones_own_is_made_and_unmade(page: Page, server: Served) -> None:
    await page.goto(link(RecommendRequest(k=6)))
    await expect(page.get_by_text("Nothing is known of this person")).to_be_visible()
    field = page.get_by_role("combobox", name="Add an item")
    for title in ("Film 0", "Film 4"):
        await field.fill(title)
        await found(page).filter(has_text=re.compile(f"^{title}(?![0-9])")).first.click()
    await shows(page, item_ids(server, RecommendRequest(history=History(item_ids=["100", "104"]), k=6)))
    await page.get_by_role("button", name="Take Film 0 out of the history").click()
    await shows(page, item_ids(server, RecommendRequest(history=History(item_ids=["104"]), k=6)))


async def test_a_session_shows_its_events_and_its_own_controls(page: Page, server: Served) -> None:
    server.ask(
        '{"session_id": "ann", "events": [{"event_id": "1", "item_id": "100"}, {"event_id": "2", "item_id": "gone"}]}',
        "/steersman.v1.SessionService/AppendEvents",
    )
    server.ask(
        '{"session_id": "ann", "controls": [{"concept": "genres:War", "operation": "OPERATION_ADD", "strength": 1}]}',
        "/steersman.v1.SessionService/SetControls",
    )
    await page.goto(link(RecommendRequest(k=6)))
    await page.get_by_role("button", name="Session", exact=True).click()
    await page.get_by_label("Session id").fill("ann")
    await page.keyboard.press("Enter")
    await shows(page, item_ids(server, RecommendRequest(session_id="ann", k=6)))
    await expect(page.get_by_role("list", name="Latest events")).to_contain_text("unknown item gone")
    await expect(page.get_by_role("list", name="Controls from elsewhere")).to_contain_text("War")


@pytest_asyncio.fixture(loop_scope="session")
async def phone(browser: Browser, server: Served) -> AsyncIterator[Page]:
    async with opened(browser, server.http, PHONE) as page:
        yield page


async def test_on_a_phone_the_list_is_above_the_sliders(phone: Page) -> None:
    await phone.goto(link(steered_by(HORROR)))
    await expect(rows(phone).first).to_be_visible()
    await expect(rows(phone, "Without steering").first).to_be_hidden()
    list_box = await rows(phone).last.bounding_box()
    slider_box = await phone.get_by_role("slider", name="Horror", exact=True).bounding_box()
    assert list_box
    assert slider_box
    assert list_box["y"] < slider_box["y"]
    assert await phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
