"""What is fuzzed: each target takes any bytes, and raises for what must not happen."""

import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef, Goal, ItemSet, ShareGoal
from steersman.v1.explanation_service_pb2 import ChangeQuery, ExplainRequest
from steersman.v1.recommendation_service_pb2 import (
    AttributeFilter,
    BatchRecommendRequest,
    Composition,
    Filters,
    History,
    LeastShare,
    MostPerValue,
    RecommendRequest,
)
from steersman.v1.scenario_service_pb2 import Policy, PolicyRule, PutScenarioRequest, Scenario
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, EventKind, SetControlsRequest
from steersman_service.bundle.bundle import load_bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.errors import BundleError
from steersman_service.http.app import gateway_app
from steersman_service.http.contract import methods
from steersman_service.http.options import GatewayOptions
from tests.fuzz.session_keys import sessions
from tests.fuzz.target import SECONDS, Target
from tests.serving import serving, settings_for

# Answers of a server that has a fault, or hangs.
FAULTS = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


@contextmanager
def requests(bundle: Path) -> Iterator[Target]:
    """The first byte chooses the RPC, the rest is the message: to a real server, with a real session store."""
    paths = [method.path for method in methods()]
    with tempfile.TemporaryDirectory() as folder, serving(settings_for(Path(folder), bundle)) as server:
        calls: list[Any] = [server.channel.unary_unary(path) for path in paths]

        def run(data: bytes) -> None:
            call = calls[data[0] % len(calls)] if data else calls[0]
            try:
                call(data[1:], timeout=SECONDS)
            except grpc.RpcError as error:
                if error.code() in FAULTS:
                    raise AssertionError(f"{paths[data[0] % len(paths)]}: {error.code()}") from error

        yield Target([*_sound_requests(bundle, paths)], run)


def _sound_requests(bundle: Path, paths: Sequence[str]) -> Iterator[bytes]:
    loaded = load_bundle(bundle, "onnx")
    ids = [str(item_id) for item_id in loaded.items["item_id"].to_pylist()[:4]]
    controls = [
        Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5),
        Control(feature=FeatureRef(id=1, bundle_version=loaded.version), operation=OPERATION_ADD, strength=-1),
        Control(attribute=AttributeRef(name="genres", value="War"), operation=OPERATION_ADD, strength=1),
        Control(items=ItemSet(item_ids=ids), operation=OPERATION_ADD, strength=1),
        Control(
            words="horror", operation=OPERATION_ADD, goal=Goal(share=ShareGoal(at_least=0.5, concept="genres:War"))
        ),
    ]
    filters = Filters(attributes=[AttributeFilter(attribute="genres", any_of=["War"])], deny_item_ids=ids[:1])
    composition = Composition(
        diversity=0.2,
        most_per_value=[MostPerValue(attribute="genres", most=2)],
        pinned_item_ids=ids[1:2],
        least_shares=[LeastShare(items=ItemSet(item_ids=ids), share=0.1)],
    )
    history = History(item_ids=ids, events_before=7)
    plain = RecommendRequest(history=history, controls=controls[:2], filters=filters, k=3, receipt=True)
    events = [Event(event_id=f"e{kind}", item_id=ids[0], kind=EventKind.Name(kind)) for kind in EventKind.values()]
    scenario = Scenario(
        name="s",
        controls=controls[:1],
        filters=filters,
        composition=composition,
        policy=Policy(rules=[PolicyRule(concept="genres:*")]),
    )
    messages: dict[str, list[Message]] = {
        "Recommend": [
            plain,
            RecommendRequest(history=history, controls=controls, composition=composition),
            RecommendRequest(
                session_id="f", new_events=events, fallback_history=history, min_session_version=1, scenario="s"
            ),
        ],
        "BatchRecommend": [BatchRecommendRequest(requests=[plain, plain])],
        "Explain": [
            ExplainRequest(request=plain, item_ids=ids, top_features=3, event_influence=True),
            ExplainRequest(
                request=RecommendRequest(history=history), change=ChangeQuery(item_id=ids[0], control=controls[0])
            ),
        ],
        "AppendEvents": [AppendEventsRequest(session_id="f", events=events)],
        "SetControls": [SetControlsRequest(session_id="f", controls=controls)],
        "PutScenario": [PutScenarioRequest(scenario=scenario, author="a")],
    }
    for number, path in enumerate(paths):
        yield bytes([number])
        for message in messages.get(path.rpartition("/")[2], ()):
            yield bytes([number]) + message.SerializeToString()


@contextmanager
def bundles(bundle: Path) -> Iterator[Target]:
    """A byte chooses a file, three a place, the rest is put there; the manifest is made right again, so that readers see it.

    A bundle that was changed is refused by its checksums before that.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(shutil.copytree(bundle, Path(folder, "bundle")))
        names = sorted(path.name for path in work.iterdir() if path.suffix not in (".onnx", ".ts"))

        def run(data: bytes) -> None:
            name = names[data[0] % len(names)] if data else names[0]
            plain, manifest = (work / name).read_bytes(), (work / "manifest.json").read_bytes()
            place = int.from_bytes(data[1:4]) % (len(plain) + 1)
            spoilt = plain[:place] + data[4:] + plain[place + len(data[4:]) :]
            try:
                _write(work / name, spoilt)
                with contextlib.suppress(BundleError):
                    if name != "manifest.json":  # which may not be JSON any more
                        _resign(work, name, spoilt)
                    loaded = load_bundle(work, "onnx")
                    Catalogue(loaded, Items(loaded.items))
            finally:
                _write(work / name, plain)
                _write(work / "manifest.json", manifest)

        seeds = [
            bytes([number]) + place.to_bytes(3) + b"\xff\x00" for number in range(len(names)) for place in (0, 9, 99)
        ]
        yield Target(seeds, run)


def _write(path: Path, content: bytes) -> None:
    """Another file: the one that was there may be mapped."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _resign(folder: Path, name: str, content: bytes) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    if name not in document["files"]:
        return
    del document["version"]
    document["files"][name].update(sha256=hashlib.sha256(content).hexdigest(), size=str(len(content)))
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    version = hashlib.sha256(canonical.encode()).hexdigest()
    _write(folder / "manifest.json", json.dumps({"version": version, **document}).encode())


class _Upstream:
    """Answers every call with the bytes that it was sent, or with an error."""

    async def call(
        self, path: str, request: bytes, seconds: float | None, metadata: list[tuple[str, str]]
    ) -> bytes | Status:
        return request if len(request) % 2 else Status(code=1 + len(request) % 16, message="x")

    async def serves(self, service: str) -> bool:
        return True


@contextmanager
def http(bundle: Path) -> Iterator[Target]:
    """Lines: method, path, headers; after an empty one the body. Through the gateway's application, without a socket."""
    app = gateway_app(_Upstream(), GatewayOptions(), lambda kind, status: None)
    loop = asyncio.new_event_loop()

    async def request(data: bytes) -> None:
        head, _, body = data.partition(b"\n\n")
        first, *lines = head.split(b"\n")
        if not first.isascii():  # h11 refuses it
            return
        method, _, path = first.partition(b" ")
        named = [line.partition(b":")[::2] for line in lines if b":" in line]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method.decode("latin-1").upper(),
            "scheme": "http",
            "path": path.partition(b"?")[0].decode("utf-8", "replace"),
            "raw_path": path,
            "root_path": "",
            "query_string": path.partition(b"?")[2],
            "headers": [(name.strip().lower(), value.strip()) for name, value in named],
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
        }
        half, begun, ended = len(body) // 2, 0, False
        parts = iter(
            [
                {"type": "http.request", "body": body[:half], "more_body": True},
                {"type": "http.request", "body": body[half:]},
            ]
        )

        async def receive() -> Any:
            return next(parts, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            nonlocal begun, ended
            begun += message["type"] == "http.response.start"
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start" and message["status"] in (500, 501) and not _may_fail(message):
                raise AssertionError("an error of the gateway's own")

        await app(scope, receive, send)
        if begun != 1 or not ended:
            raise AssertionError(f"{begun} answers, ended: {ended}")

    yield Target([*_http_seeds()], lambda data: loop.run_until_complete(asyncio.wait_for(request(data), SECONDS)))
    loop.close()


def _may_fail(message: Any) -> bool:
    """The upstream answers with any code, and a method of HTTP may be none."""
    return any(name == b"content-type" and b"json" in value for name, value in message["headers"])


def _http_seeds() -> Iterator[bytes]:
    host = b"\nhost: localhost"
    yield b"GET /" + host
    yield b"GET /healthz"
    yield b"GET /openapi.json" + host + b"\naccept: text/html"
    yield b"GET /console/../../etc/passwd" + host
    for path in (method.path.encode() for method in methods()):
        for kind, body in (
            (b"application/json", b'{"k": 3, "controls": [{"concept": "a"}], "history": {"itemIds": ["1"]}}'),
            (b"application/json\nconnect-timeout-ms: 100\ncontent-encoding: gzip", b"\x1f\x8b\x08"),
            (b"application/proto", b"\x0a\x03abc"),
            (b"application/grpc-web+proto\ngrpc-timeout: 1S", b"\x00\x00\x00\x00\x02\x28\x03"),
        ):
            yield b"POST " + path + host + b"\ncontent-type: " + kind + b"\n\n" + body


TARGETS = {"requests": requests, "sessions": sessions, "bundles": bundles, "http": http}


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, left out, repeated or put in."""
    changed = bytearray(data)
    for _ in range(chance.randint(0, 6)):
        place = chance.randrange(len(changed) + 1)
        end = min(len(changed), place + chance.choice((0, 1, 1, 4, 16)))
        changed[place:end] = chance.choice(
            (b"", chance.randbytes(1), chance.randbytes(4), bytes(changed[place:end]) * 2)
        )
    return bytes(changed)
