"""Takes the pictures of console.md: every page of a running server's console, in light, in dark and on a phone.

python docs/console_pictures.py --http http://127.0.0.1:8080 --grpc 127.0.0.1:50051

Needs Chromium (Debian: apt-get install chromium). So that there is something to see, it puts a scenario "evening" first, if there is none,
and asks for some lists.
"""

import argparse
import asyncio
import base64
import io
import shutil
import time
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, ViewportSize, async_playwright

from steersman.v1.control_pb2 import OPERATION_ADD, Control, Goal, ShareGoal
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_client import Client, Composition, Scenario, concept

OUT = Path(__file__).parent / "console"
LOOKS: dict[str, tuple[str, ViewportSize]] = {
    "light": ("light", {"width": 1280, "height": 900}),
    "dark": ("dark", {"width": 1280, "height": 900}),
    "phone": ("light", {"width": 390, "height": 844}),
}
STAR_WARS, ALIEN = ("50", "181", "172"), "183"
TRAFFIC_SECONDS = 24


def link(request: RecommendRequest, page: str = "try", more: str = "") -> str:
    data = base64.urlsafe_b64encode(request.SerializeToString()).decode().rstrip("=")
    return f"{page}?r={data}{more}"


def pages() -> dict[str, str]:
    """What is shown of each page."""
    horror = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=1.2)
    war = Control(concept="genres:War", operation=OPERATION_ADD, goal=Goal(share=ShareGoal(at_least=0.3)))
    steered = RecommendRequest(history=History(item_ids=STAR_WARS), controls=[horror, war], k=10)
    plain = RecommendRequest(history=History(item_ids=STAR_WARS), k=10)
    return {
        "try": link(steered, more=f"&item={ALIEN}"),
        "taste": link(plain, "taste"),
        "concepts": "concepts",
        "concept": "concepts?name=genres:Horror",
        "features": "features",
        "scenarios": "scenarios?name=evening",
        "model": "model",
        "traffic": "traffic",
    }


def prepare(client: Client) -> None:
    if not any(scenario.name == "evening" for scenario in client.scenarios()):
        client.put_scenario(
            Scenario(
                "evening",
                description="Second row of the home page: darker than usual, in some variety",
                controls=[concept("genres:Thriller", 0.4), concept("genres:Children's", -0.5)],
                composition=Composition(diversity=0.2),
            ),
            author="Ada",
        )


async def shoot(browser: Browser, http: str, grpc: str) -> None:
    for look, (scheme, viewport) in LOOKS.items():
        context = await browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page = await context.new_page()
        for name, route in pages().items():
            await page.goto("about:blank")
            await page.goto(f"{http}/console/#/{route}")
            await page.wait_for_load_state("networkidle")
            if name == "traffic":
                await asyncio.to_thread(call_for_a_while, grpc)
            await settled(page)
            picture = await page.screenshot(full_page=name == "try")
            # A hundred colours are all that there are, and take half of the bytes.
            Image.open(io.BytesIO(picture)).quantize(128).save(OUT / f"{name}-{look}.png", optimize=True)
        await context.close()


async def settled(page: Page) -> None:
    await page.wait_for_function("() => !document.querySelector('main .skeleton')")
    await page.wait_for_timeout(1500)


def call_for_a_while(grpc: str) -> None:
    """About 20 lists a second, every other steered."""
    with Client(grpc, timeout=10) as client:
        for number in range(20 * TRAFFIC_SECONDS):
            time.sleep(1 / 20)
            client.recommend(STAR_WARS, controls=[concept("genres:Horror", 0.5)] if number % 2 else [])


async def run(http: str, grpc: str) -> None:
    OUT.mkdir(exist_ok=True)
    with Client(grpc, timeout=10) as client:
        prepare(client)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        await shoot(browser, http, grpc)
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http", default="http://127.0.0.1:8080", help="of the gateway")
    parser.add_argument("--grpc", default="127.0.0.1:50051", help="HOST:PORT of the server")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.http, arguments.grpc))
