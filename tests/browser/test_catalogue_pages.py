"""Concepts and Features: found, opened by a link, gone back from, tried, and labelled."""

import json

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.links import requested
from tests.e2e.test_serve_http import Served

FEATURES = "/steersman.v1.FeatureService/"


async def test_a_concept_is_found_opened_and_tried(page: Page, server: Served) -> None:
    _, listed = server.ask("{}", FEATURES + "ListConcepts")
    concept = next(each for each in listed["concepts"] if each["attribute"] == "genres")
    name = concept["displayName"]
    await page.goto("#/concepts")
    rows = page.get_by_role("row").filter(has=page.get_by_role("link"))
    await expect(rows).to_have_count(len(listed["concepts"]))
    await page.get_by_label("Search").fill(name)
    await expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    await page.wait_for_url("**/*#/concepts?q=*")
    # By keyboard.
    await page.get_by_role("link", name=name, exact=True).focus()
    await page.keyboard.press("Enter")
    heading = page.get_by_role("heading", name=name, exact=True)
    await expect(heading).to_be_focused()
    await expect(page).to_have_title(f"{name} · Concepts · Steersman")
    chart = page.get_by_role("img", name=f"Effect of {name}")
    await expect(chart).to_be_visible()
    await page.get_by_text("As a table").click()
    share = f"{round(100 * concept['effect']['shareAfter'])}%"
    await expect(page.get_by_role("row").last).to_contain_text(share)
    await page.go_back()
    await expect(page.get_by_label("Search")).to_have_value(name)
    await page.go_forward()
    await page.get_by_role("link", name="Try it").click()
    await page.wait_for_url("**/*#/try?r=*")
    (control,) = requested(page.url).controls
    assert (control.concept, control.strength) == (concept["name"], 1)


async def test_concepts_are_sorted_by_what_they_do(page: Page, server: Served) -> None:
    _, listed = server.ask("{}", FEATURES + "ListConcepts")

    def raised(concept: dict[str, dict[str, float]]) -> float:
        return concept["effect"].get("shareAfter", 0) - concept["effect"].get("shareBefore", 0)

    most = max(listed["concepts"], key=raised)["displayName"]
    least = min(listed["concepts"], key=raised)["displayName"]
    await page.goto("#/concepts")
    first = page.get_by_role("row").nth(1).get_by_role("link")
    await expect(first).to_have_text(most)
    await page.get_by_role("button", name="Raises its share by").click()
    await expect(first).to_have_text(least)
    await expect(page.get_by_role("columnheader", name="Raises its share by")).to_have_attribute(
        "aria-sort", "ascending"
    )


async def test_features_are_found_by_text_and_by_items(page: Page, server: Served) -> None:
    _, every = server.ask('{"pageSize": 100}', FEATURES + "ListFeatures")
    _, items = server.ask('{"pageSize": 1}', "/steersman.v1.ItemService/ListItems")
    (item,) = items["items"]
    await page.goto("#/features")
    await expect(page.get_by_text(f"{every['totalSize']} features")).to_be_visible()
    field = page.get_by_role("combobox", name="What fires on these? Add an item")
    await field.fill(item["title"])
    await expect(page.get_by_role("option", name=item["title"])).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name=f"Without {item['title']}")).to_be_visible()
    await page.wait_for_url(f"**/*items={item['itemId']}*")
    _, fires = server.ask(json.dumps({"itemIds": [item["itemId"]]}), FEATURES + "ListFeatures")
    first = fires["features"][0]["id"] if fires["features"][0].get("id") else 0
    link = page.get_by_role("row").nth(1).get_by_role("link")
    await expect(link).to_have_attribute("href", f"#/features?id={first}")
    await page.reload()
    await expect(page.get_by_role("button", name=f"Without {item['title']}")).to_be_visible()
    await page.get_by_label("Search").fill("nothing is called this")
    await expect(page.get_by_text("No feature fits")).to_be_visible()
    await page.get_by_role("button", name="Show all features").click()
    await expect(page.get_by_text(f"{every['totalSize']} features")).to_be_visible()


async def test_a_link_to_what_is_not_there_says_so(page: Page) -> None:
    await page.goto("#/features?id=99999")
    await expect(page.get_by_text("There is no feature 99999")).to_be_visible()
    await page.goto("#/concepts?name=genres:Nothing")
    await expect(page.get_by_text("There is no concept “genres:Nothing”")).to_be_visible()
    await page.goto("#/features?page=broken")
    await expect(page.get_by_text("This page is of another list")).to_be_visible()


async def correct(page: Page, label: str) -> None:
    await page.get_by_role("button", name="Correct the label").click()
    await page.get_by_label("New label").fill(label)
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_role("button", name="Save").click()


async def test_a_label_is_corrected_and_taken_back(page: Page) -> None:
    await page.goto("#/features")
    await page.get_by_role("row").nth(1).get_by_role("link").click()
    heading = page.get_by_role("heading", level=2).first
    automatic = await heading.inner_text()
    await correct(page, "What Ada calls it")
    await expect(heading).to_have_text("What Ada calls it")
    await expect(page.get_by_text("Label by Ada, ")).to_contain_text("The automatic one is")
    # For everybody, and on all pages.
    await page.reload()
    await expect(heading).to_have_text("What Ada calls it")
    await page.get_by_role("button", name="Correct the label").click()
    await page.get_by_role("button", name="Back to the automatic label").click()
    await expect(heading).to_have_text(automatic)
    await expect(page.get_by_text("Label by Ada")).to_have_count(0)


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("failed_precondition", 400, "The server has another bundle by now"),
        ("unavailable", 503, "The label could not be kept"),
        ("unimplemented", 501, "This server cannot keep labels"),
    ],
)
async def test_a_label_that_is_refused_is_explained(page: Page, code: str, status: int, said: str) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=status, content_type="application/json", json={"code": code, "message": "no"})

    await page.route("**/steersman.v1.FeatureService/SetLabel", refuse)
    await page.goto("#/features?id=0")
    await correct(page, "Mine")
    await expect(page.get_by_role("alert")).to_contain_text(said)
    await expect(page.get_by_label("New label")).to_have_value("Mine")
