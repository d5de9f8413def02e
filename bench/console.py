"""How soon the console's page Try shows the list of a slider that moved, in a real browser.

    python -m bench.console --bundle data/bundles/current --json FILE

One server, as `steersman serve` starts it, and Chromium without a window. A move is one input event of a slider; it lasts until the
frame after the change of the steered list is painted. The next move comes some time after. A drag is 40 inputs at the pace of a screen,
whether or not answers keep up: what counts is how many lists are painted, and that the list at the end is that of the last input.

It needs a quiet machine: browser and server share its cores.
"""

import argparse
import base64
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urljoin, urlsplit
from urllib.request import Request, urlopen

import numpy as np
from playwright.sync_api import Page, ViewportSize, sync_playwright

from bench.gateway import PATH, PROTO, served
from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest, RecommendResponse
from steersman_service.bundle.bundle import load_bundle

AIMS_MS = {"p50": 35.0, "p95": 60.0}
LEAST_REPAINTS = 20
DRAG_INPUTS = 40
CONTROLS = (1, 4)
VIEWPORT = ViewportSize(width=1280, height=860)
# As the page's own rest, and a whole answer after it.
REST_MS = 1500
WARM_UP_MOVES = 20
MEASURE = Path(__file__).with_suffix(".js")


class Moves(NamedTuple):
    """Times of moves, in milliseconds."""

    painted: list[float]
    """From the input event to the frame after the list changed."""
    calls: list[float]
    """Of these, from the beginning of the call to its end, as the browser sees them."""
    unchanged: int
    """Moves whose list was the same as before: they are left out."""


class Drag(NamedTuple):
    repaints: int
    """Frames in which the list changed. Inputs close to each other may have the same list."""
    answers: int
    last_wins: bool
    """Whether the list at the end is that of the last input."""


def main() -> None:
    """Prints quantiles beside the aims."""
    parser = argparse.ArgumentParser(
        "python -m bench.console", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--url", help="a console that is served already, of this bundle; otherwise a server is started")
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--pause-ms", type=float, default=60, help="between the end of a move and the next one")
    parser.add_argument("--drags", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser's program")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if not arguments.chromium:
        raise SystemExit("no Chromium is found: install it, or give --chromium")
    figures: dict[str, Any] = {}
    with _console(arguments.url, arguments.bundle) as url, _page(arguments.chromium) as page:
        for count in CONTROLS:
            _open(page, url, _request(arguments.bundle, count))
            page.evaluate("([n, ms]) => measure.moves(n, ms)", [WARM_UP_MOVES, arguments.pause_ms])
            moves = Moves(*page.evaluate("([n, ms]) => measure.moves(n, ms)", [arguments.moves, arguments.pause_ms]))
            drags = [_drag(page) for _ in range(arguments.drags)]
            figures[str(count)] = _told(count, moves, drags)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


@contextmanager
def _console(url: str | None, bundle: Path) -> Iterator[str]:
    """Its address, with a slash at the end."""
    if url:
        yield url
        return
    with served(bundle) as server:
        yield f"{server.http}/console/"


@contextmanager
def _page(chromium: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT)
        page.add_init_script(path=MEASURE)
        yield page
        browser.close()


def _request(bundle: Path, controls: int) -> RecommendRequest:
    """A history of 40 items, and the first concepts of the bundle."""
    loaded = load_bundle(bundle, "onnx")
    rng = np.random.default_rng(0)
    item_ids = rng.choice(loaded.items["item_id"].to_numpy(), 40, replace=False)
    names = loaded.concepts["name"].to_pylist()[:controls]
    steered = [Control(concept=name, operation=OPERATION_ADD, strength=0.5) for name in names]
    return RecommendRequest(history=History(item_ids=item_ids), controls=steered, k=10)


def _open(page: Page, url: str, request: RecommendRequest) -> None:
    text = base64.urlsafe_b64encode(request.SerializeToString()).decode().rstrip("=")
    # Another page of the same origin in between: an address that differs behind "#" alone is no new page.
    page.goto("about:blank")
    page.goto(f"{url}#/try?r={text}")
    page.get_by_role("list", name="Steered").get_by_role("button").first.wait_for()
    page.wait_for_timeout(REST_MS)


def _drag(page: Page) -> Drag:
    repaints, answers, last = page.evaluate("n => measure.drag(n)", DRAG_INPUTS)
    page.wait_for_timeout(REST_MS)
    request = _shown_request(page.url)
    wanted = [item.item_id for item in _recommend(urljoin(page.url, "../"), request).items]
    is_last = math.isclose(request.controls[0].strength, last, abs_tol=1e-6)
    return Drag(repaints, answers, is_last and page.evaluate("() => measure.shown()") == wanted)


def _shown_request(url: str) -> RecommendRequest:
    """That of the page's address."""
    (text,) = parse_qs(urlsplit(url).fragment.partition("?")[2])["r"]
    return RecommendRequest.FromString(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _recommend(root: str, request: RecommendRequest) -> RecommendResponse:
    call = Request(f"{root}{PATH.lstrip('/')}", request.SerializeToString(), {"content-type": PROTO})
    with urlopen(call) as response:
        return RecommendResponse.FromString(response.read())


def _told(count: int, moves: Moves, drags: Sequence[Drag]) -> dict[str, Any]:
    painted = {f"p{q}": float(np.percentile(moves.painted, q)) for q in (50, 95)}
    calls = {f"p{q}": float(np.percentile(moves.calls, q)) for q in (50, 95)}
    for name, aim in AIMS_MS.items():
        print(
            f"{count} control(s), slider to painted list, {name} of {len(moves.painted)}: {painted[name]:.1f} ms"
            f" (aim {aim:g}); the call's part: {calls[name]:.1f} ms"
        )
    repaints = [drag.repaints for drag in drags]
    print(
        f"{count} control(s), repaints of a drag of {DRAG_INPUTS}: {sorted(repaints)} (aim {LEAST_REPAINTS}), answers:"
        f" {sorted(drag.answers for drag in drags)}; the last"
        f" input won in {sum(drag.last_wins for drag in drags)} of {len(drags)}; moves without another list: {moves.unchanged}"
    )
    return {
        "painted_ms": painted,
        "call_ms": calls,
        "moves": moves.painted,
        "unchanged": moves.unchanged,
        "repaints": repaints,
        "answers": [drag.answers for drag in drags],
        "last_wins": [drag.last_wins for drag in drags],
    }


if __name__ == "__main__":
    main()
