"""Visits over HTTP, beside the load: recommendations under a scenario, and what people say of what they see."""

import json
import random
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

VISIT_SECONDS = 0.2
SCENARIO = {
    "name": "home",
    "controls": [{"concept": "genres:Horror", "operation": "OPERATION_ADD", "strength": 0.5}],
}
# As often as people say it of an item that they see; "NO_KIND" is refused.
KINDS = {"SHOWN": 10, "CONSUMED": 2, "HIDDEN": 2, "DISLIKED": 1, "NO_KIND": 1}


@contextmanager
def visited(http: str) -> Iterator[None]:
    """Visits the gateway at the URL `http` until the end. What fails is counted by the server, and here left."""
    _post(http, "ScenarioService/PutScenario", {"scenario": SCENARIO})
    ended = threading.Event()
    visits = threading.Thread(target=_visit, args=(http, ended))
    visits.start()
    try:
        yield
    finally:
        ended.set()
        visits.join()


def _visit(http: str, ended: threading.Event) -> None:
    chance = random.Random(0)
    while not ended.wait(VISIT_SECONDS):
        (kind,) = chance.choices([*KINDS], [*KINDS.values()])
        event = {"eventId": uuid4().hex, "itemId": str(chance.randint(1, 300)), "kind": f"EVENT_KIND_{kind}"}
        request = {"sessionId": f"visitor-{chance.randint(1, 20)}", "newEvents": [event], "scenario": SCENARIO["name"]}
        try:
            _post(http, "RecommendationService/Recommend", request)
        except OSError:  # an answer that is an error is one, too
            continue


def _post(http: str, method: str, body: dict[str, Any]) -> None:
    """Raises OSError."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{http}/steersman.v1.{method}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        answer.read()
