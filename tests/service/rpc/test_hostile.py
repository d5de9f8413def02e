"""What a caller may send, by mistake or by intent: it gets an error with details, and nobody else notices."""

import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from redis import Redis

from steersman.v1.control_pb2 import CONTROL_SOURCE_REQUEST, OPERATION_ADD, Control
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.recommendation_service_pb2 import AttributeFilter, Filters, History, RecommendRequest
from steersman.v1.session_service_pb2 import (
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    GetSessionRequest,
    SetControlsRequest,
)
from steersman_service.api.handlers import SERVICES
from steersman_service.bundle.items import Items
from steersman_service.checks import check_events
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.steering.controls import ControlParser, violations
from steersman_service.steering.eligibility import check_filters
from tests.service.telemetry.test_metrics import scrape
from tests.serving import Failure, Running, explain, failure, serving, settings_for

HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)
# Field 99, of 1,000 bytes.
UNKNOWN_FIELD = b"\x9a\x06\xe8\x07" + b"z" * 1000
MANY = 50_000
# As gRPC's health checks and reflection have them, beside those of SERVICES.
OTHER_METHODS = (
    ("/grpc.health.v1.Health/Check", "unary_unary"),
    ("/grpc.health.v1.Health/Watch", "unary_stream"),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "stream_stream"),
)


class _OnlyCounted(Sequence[Any]):
    """So many that a look at each would hold everybody up."""

    def __len__(self) -> int:
        return 2_000_000

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("looked at before it was counted")

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("looked at before it was counted")


def rpcs() -> Iterator[tuple[str, type[Message]]]:
    """Path and request of each RPC of the contract."""
    for service in SERVICES:
        for method in descriptor_pool.Default().FindServiceByName(f"steersman.v1.{service}").methods:
            request = message_factory.GetMessageClass(method.input_type)
            yield f"/steersman.v1.{service}/{method.name}", request


def send(server: Running, path: str, data: bytes, kind: str = "unary_unary") -> grpc.RpcError | None:
    """The error that bytes are answered with, if they are."""
    call: Any = getattr(server.channel, kind)(path)
    try:
        if kind == "unary_unary":
            call(data, timeout=60)
        else:
            list(call(iter([data]) if kind == "stream_stream" else data, timeout=60))
    except grpc.RpcError as error:
        return error
    return None


def refused(server: Running, path: str, data: bytes, kind: str = "unary_unary") -> Failure:
    error = send(server, path, data, kind)
    assert error is not None, f"{path} was answered"
    return explain(error)


def counts(server: Running, *, name: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as response:
        lines = response.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)}


def alive(server: Running) -> bool:
    health: Any = HealthStub(server.channel)
    return bool(health.Check(HealthCheckRequest(), timeout=60).status == HealthCheckResponse.SERVING)


def test_what_is_repeated_is_counted_before_it_is_looked_at(items: Items) -> None:
    many: Any = _OnlyCounted()
    nothing: Any = None
    parser = ControlParser("", nothing, nothing, nothing, 32, 1.0, nothing)
    parsed = parser.parse("controls", CONTROL_SOURCE_REQUEST, many)
    assert violations(parsed) == [("controls", "2000000 controls; at most 32")]
    assert next(check_events("events", many, 1000)).field == "events"
    plain = {"allow_item_ids": (), "deny_item_ids": (), "attributes": ()}
    conditions: Any = SimpleNamespace(**{**plain, "attributes": many})
    assert check_filters(conditions, items, 10_000)[0].field == "filters.attributes"
    denied: Any = SimpleNamespace(**{**plain, "deny_item_ids": many})
    assert check_filters(denied, items, 10_000)[0].field == "filters"
    one = SimpleNamespace(attribute="genres", any_of=many)
    values: Any = SimpleNamespace(**{**plain, "attributes": [one]})
    assert check_filters(values, items, 10_000)[0].field == "filters"


def test_too_many_of_anything_is_refused_with_field_and_limit(server: Running) -> None:
    recommend, session = server.recommendation, server.session
    empty, event = [AttributeFilter()] * MANY, [Event()] * MANY
    cases: tuple[tuple[Any, Message, str, str], ...] = (
        (recommend.Recommend, RecommendRequest(controls=[Control()] * MANY), "controls", "at most 32"),
        (recommend.Recommend, RecommendRequest(filters=Filters(attributes=empty)), "filters.attributes", "at most 32"),
        (recommend.Recommend, RecommendRequest(filters=Filters(allow_item_ids=[""] * MANY)), "filters", "10000"),
        (recommend.Recommend, RecommendRequest(filters=Filters(deny_item_ids=[""] * MANY)), "filters", "10000"),
        (
            recommend.Recommend,
            RecommendRequest(filters=Filters(attributes=[AttributeFilter(attribute="genres", any_of=[""] * MANY)])),
            "filters",
            "10000",
        ),
        (recommend.Recommend, RecommendRequest(history=History(item_ids=[""] * MANY)), "history.item_ids", "10000"),
        (
            recommend.Recommend,
            RecommendRequest(session_id="s", fallback_history=History(item_ids=[""] * MANY)),
            "fallback_history.item_ids",
            "10000",
        ),
        (recommend.Recommend, RecommendRequest(session_id="s", new_events=event), "new_events", "1000"),
        (session.AppendEvents, AppendEventsRequest(session_id="s", events=event), "events", "1000"),
        (session.SetControls, SetControlsRequest(session_id="s", controls=[Control()] * MANY), "controls", "32"),
    )
    for call, request, field, limit in cases:
        failed = failure(call, request)
        assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
        assert failed.fields.keys() == {field}
        assert str(MANY)[:4] in failed.fields[field]
        assert limit in failed.fields[field]


def test_no_more_names_are_compared_than_an_error_shows(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def hint(name: str, *_: Any) -> str:
        compared.append(name)
        return "none"

    monkeypatch.setattr("steersman_service.steering.control.did_you_mean", hint)
    wrong = [Control(concept=f"nothing {number}", operation=OPERATION_ADD) for number in range(32)]
    failed = failure(server.recommendation.Recommend, RecommendRequest(controls=wrong))
    assert len(failed.fields) == 8
    assert failed.message.endswith("(and more)")
    assert len(compared) <= 9


# The first field of their requests is no text.
NO_TEXT_FIRST = (
    "/GetModelInfo",
    "/GetFeature",
    "/ListFeatures",
    "/ListItems",
    "/ListScenarios",
    "/ListHistories",
    "/ListBundles",
    "/ListReleases",
    "/SetCanaryShare",
    "/RollBack",
    "/SetLabel",
)


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x05a", b"\x0a\x02\xff\xfe"], ids=["tag", "truncated", "text"])
def test_bytes_that_are_no_message_are_told_and_counted(server: Running, data: bytes) -> None:
    methods = [*((path, "unary_unary") for path, _ in rpcs()), *OTHER_METHODS]
    before = counts(server, name="grpc_server_")
    for path, kind in methods:
        if data != b"\x0a\x02\xff\xfe" or not path.endswith(NO_TEXT_FIRST):
            failed = refused(server, path, data, kind)
            assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE"), path
            assert failed.fields.keys() == {"request"}
            assert "google.protobuf" not in failed.message
            service, _, method = path[1:].partition("/")
            rest = f'grpc_method="{method}",grpc_service="{service}"'
            after = counts(server, name="grpc_server_")
            for series in ("grpc_server_started_total{", 'grpc_server_handled_total{grpc_code="InvalidArgument",'):
                moved = [after[key] - before.get(key, 0) for key in after if key.startswith(series) and rest in key]
                assert moved == [1], (series, path)


def test_methods_that_are_not_there_are_counted_as_one(server: Running) -> None:
    name = "grpc_server_handled_total"
    series = f'{name}{{grpc_code="Unimplemented",grpc_method="unknown",grpc_service="unknown",grpc_type="bidi_stream"}}'
    before = counts(server, name=name)
    for path, kind in (("/steersman.v1.RecommendationService/Divine", "unary_unary"), ("/a.B/C", "stream_stream")):
        failed = refused(server, path, b"\xff", kind)
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD")
    after = counts(server, name=name)
    assert after[series] - before[series] == 2
    assert after.keys() == before.keys()


def test_a_request_beyond_the_limit_of_bytes_says_so(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bundle_dir, max_message_bytes=2048)) as server:
        failed = failure(server.recommendation.Recommend, RecommendRequest(request_id="x" * 2100))
        assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")
        assert failed.fields == {"request": "2103 bytes; at most 2048"}
        series = 'steersman_refused_total{reason="message_too_large"}'
        assert counts(server, name="steersman_refused_total")[series] == 1


def test_fields_of_controls_that_nobody_knows_are_not_kept(server: Running) -> None:
    session_id = f"test-{uuid4()}"
    wide = Control.FromString(HORROR.SerializeToString() + UNKNOWN_FIELD * 100)
    controls = [wide] * 31
    server.session.SetControls(SetControlsRequest(session_id=session_id, controls=controls))
    session = server.session.GetSession(GetSessionRequest(session_id=session_id)).session
    assert list(session.controls) == [HORROR] * 31
    answer = server.recommendation.Recommend(RecommendRequest(session_id=session_id))
    assert {applied.control.SerializeToString() for applied in answer.applied_controls} == {HORROR.SerializeToString()}
    answer = server.recommendation.Recommend(RecommendRequest(controls=controls))
    assert {applied.control.SerializeToString() for applied in answer.applied_controls} == {HORROR.SerializeToString()}


def test_a_session_that_holds_such_fields_already_can_be_read(bundle_dir: Path, tmp_path: Path) -> None:
    store = EmbeddedValkey.start(tmp_path / "store")
    try:
        with serving(settings_for(tmp_path, bundle_dir, redis_url=store.url)) as server:
            server.session.SetControls(SetControlsRequest(session_id="s", controls=[HORROR]))
            kept = HORROR.SerializeToString() + UNKNOWN_FIELD * 4500
            with Redis.from_url(store.url) as redis:
                redis.lset("steersman:{s}:controls", 0, kept)
            session = server.session.GetSession(GetSessionRequest(session_id="s")).session
            assert list(session.controls) == [HORROR]
            answer = server.recommendation.Recommend(RecommendRequest(session_id="s"))
            assert [applied.control for applied in answer.applied_controls] == [HORROR]
    finally:
        store.stop()


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """What the deletion of a session sets, and what it waits for, and the event loop with it."""
    standing, go_on = threading.Event(), threading.Event()

    async def stand(*_: Any) -> bool:
        standing.set()
        return go_on.wait(60)

    monkeypatch.setattr(SessionStore, "delete", stand)
    return standing, go_on


def _codes_of_burst(
    server: Running, held_up: tuple[threading.Event, threading.Event], calls: int
) -> list[grpc.StatusCode]:
    """Of calls that arrive while the event loop is held up."""
    standing, go_on = held_up
    first = server.session.DeleteSession.future(DeleteSessionRequest(session_id="s"))
    standing.wait(60)
    # Two connections: a client holds back what one does not take.
    with grpc.insecure_channel(
        f"127.0.0.1:{server.ports.grpc}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as other:
        method = "/steersman.v1.ModelService/GetModelInfo"
        ways: list[Any] = [channel.unary_unary(method) for channel in (server.channel, other)]
        pending = [ways[n % 2].future(b"") for n in range(calls)]
        time.sleep(1)  # most of them have arrived by then; how many only decides what this can find
        go_on.set()
        codes = [call.code() for call in pending]
    assert first.result().existed
    return codes


def test_as_many_as_may_wait_are_answered_beyond_the_thousand_of_grpc_itself(
    bundle_dir: Path, tmp_path: Path, held_up: tuple[threading.Event, threading.Event]
) -> None:
    with serving(settings_for(tmp_path, bundle_dir, max_waiting_calls=5000)) as server:
        assert set(_codes_of_burst(server, held_up, 4000)) == {grpc.StatusCode.OK}


def test_calls_beyond_those_that_may_wait_are_ended_at_once_and_counted(
    bundle_dir: Path, tmp_path: Path, held_up: tuple[threading.Event, threading.Event]
) -> None:
    with serving(settings_for(tmp_path, bundle_dir, max_waiting_calls=32)) as server:
        codes = Counter(_codes_of_burst(server, held_up, 500))
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
        assert codes[grpc.StatusCode.OK] >= 32
        until = time.monotonic() + 60
        while (unseen := scrape(server)["steersman_unseen_calls_total"]) < codes[grpc.StatusCode.CANCELLED]:
            assert time.monotonic() < until, f"{unseen} of {codes}"
            time.sleep(0.2)
        assert unseen == codes[grpc.StatusCode.CANCELLED]


def test_beyond_the_calls_in_flight_one_is_refused_at_once_and_health_is_not(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir, max_calls=1)) as server:
        pending = server.recommendation.Recommend.future(RecommendRequest())
        begun.wait(60)
        failed = failure(server.model.GetModelInfo, GetModelInfoRequest())
        assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert failed.retry_seconds
        assert alive(server)
        go_on.set()
        assert pending.result().items
        assert server.model.GetModelInfo(GetModelInfoRequest()).limits.k


def _seeds(items: Items) -> dict[str, bytes]:
    """A sound request of some RPCs; the others begin with an empty one."""
    events = [Event(event_id=f"e{n}", item_id=items.ids[n]) for n in range(3)]
    filters = Filters(attributes=[AttributeFilter(attribute="genres", any_of=["War"])], deny_item_ids=items.ids[:3])
    seeds: dict[str, Message] = {
        "Recommend": RecommendRequest(history=History(item_ids=items.ids[:5]), controls=[HORROR], filters=filters, k=3),
        "AppendEvents": AppendEventsRequest(session_id="fuzz", events=events),
        "SetControls": SetControlsRequest(session_id="fuzz", controls=[HORROR] * 3),
        "GetSession": GetSessionRequest(session_id="fuzz"),
        "DeleteSession": DeleteSessionRequest(session_id="fuzz"),
    }
    return {name: message.SerializeToString() for name, message in seeds.items()}


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """One to eight bytes changed, left out, repeated or put in."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(changed) + 1)
        end = min(len(changed), place + chance.choice((0, 1, 1, 1, 4, 16)))
        changed[place:end] = chance.choice(
            (b"", chance.randbytes(1), chance.randbytes(4), bytes(changed[place:end]) * 2)
        )
    return bytes(changed)


def test_two_thousand_mutated_messages_do_no_harm(server: Running, items: Items) -> None:
    chance, seeds, methods = random.Random(15), _seeds(items), [path for path, _ in rpcs()]
    codes = set()
    for number in range(2000):
        path = methods[number % len(methods)]
        data = _mutated(seeds.get(path.rpartition("/")[2], b"\x08\x01"), chance)
        error: Any = send(server, path, data)
        if error is not None:
            explain(error)  # with details
            codes.add(error.code())
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert not codes & {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
    assert alive(server)
    assert len(server.recommendation.Recommend(RecommendRequest()).items) == 10
