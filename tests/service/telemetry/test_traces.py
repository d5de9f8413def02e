"""One trace a call, with nothing in it that a caller sent; and no trace where none is wanted."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.session_service_pb2 import Event
from steersman_service.bundle.items import Items
from steersman_service.telemetry.otlp import OpenTelemetry, exporter
from steersman_service.telemetry.traces import checked_endpoint, traces, use
from tests.service.http.gateways import PATIENCE_SECONDS, gatewayed
from tests.serving import Running, failure, serving, settings_for

RECOMMEND = "steersman.v1.RecommendationService/Recommend"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
SECRETS = ("zq-session", "zq-request", "zq-event", "zq-tenant", "zq-state")


class Traced(NamedTuple):
    """A server whose spans are kept here."""

    server: Running
    tracing: OpenTelemetry
    kept: InMemorySpanExporter

    def spans(self, count: int) -> list[ReadableSpan]:
        """Those that ended since this was last asked. A call that failed ends just after its caller was told."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.tracing.flush()
            if len(found := self.kept.get_finished_spans()) >= count or time.monotonic() > until:
                break
            time.sleep(0.01)
        self.kept.clear()
        assert len(found) == count, [span.name for span in found]
        return [*found]


@contextmanager
def traced(data: Path, bundle: Path, sample: float) -> Iterator[Traced]:
    kept = InMemorySpanExporter()
    tracing = OpenTelemetry(kept, sample, "test")
    use(tracing)
    try:
        with serving(settings_for(data, bundle)) as server:
            yield Traced(server, tracing, kept)
    finally:
        use()
        tracing.close()


@pytest.fixture(scope="module")
def always(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with traced(tmp_path_factory.mktemp("server"), bundle_dir, 1.0) as running:
        yield running


def sent(traceparent: str) -> tuple[tuple[str, str], ...]:
    return (("traceparent", traceparent), ("tracestate", "zq-state=1"), ("steersman-tenant", "zq-tenant"))


def request(item_ids: Sequence[str]) -> RecommendRequest:
    events = [Event(event_id=f"zq-event-{item}", item_id=item) for item in item_ids]
    return RecommendRequest(k=3, session_id="zq-session", request_id="zq-request", new_events=events)


def test_a_call_is_one_trace_from_the_caller_on(always: Traced, items: Items) -> None:
    always.server.recommendation.Recommend(request(items.ids[:3]), metadata=sent(SAMPLED))
    spans = {span.name: span for span in always.spans(4)}
    assert set(spans) == {RECOMMEND, "redis visit", "queue", "batch"}
    call = spans[RECOMMEND]
    assert call.parent
    assert (f"{call.context.trace_id:032x}", f"{call.parent.span_id:016x}") == (TRACE, PARENT)
    for name in ("redis visit", "queue", "batch"):
        parent = spans[name].parent
        assert parent
        assert (parent.trace_id, parent.span_id) == (call.context.trace_id, call.context.span_id)
        # They lie within the call, one after the other.
        begun, ended = spans[name].start_time or 0, spans[name].end_time or 0
        assert (call.start_time or 0) <= begun <= ended <= (call.end_time or 0)
    assert (spans["redis visit"].end_time or 0) <= (spans["queue"].start_time or 0) + 1_000_000
    assert spans["queue"].end_time == spans["batch"].start_time
    assert dict(call.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": RECOMMEND,
        "rpc.response.status_code": "OK",
    }
    assert dict(spans["redis visit"].attributes or {}) == {"db.system.name": "redis", "db.operation.name": "visit"}
    assert dict(spans["batch"].attributes or {}) == {"steersman.batch.size": 1}
    told = "".join(span.to_json() for span in spans.values())
    assert not [secret for secret in SECRETS if secret in told]
    assert call.resource.attributes["service.name"] == "steersman"


def test_what_fails_says_why(always: Traced) -> None:
    failure(always.server.recommendation.Recommend, RecommendRequest(k=99999, history=History(item_ids=["zq-session"])))
    (call,) = always.spans(1)
    assert call.status.status_code is StatusCode.ERROR
    assert (call.status.description, list(call.events)) == (None, [])
    attributes = dict(call.attributes or {})
    assert (attributes["rpc.response.status_code"], attributes["error.type"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert "zq-" not in call.to_json()


def test_the_gateway_hands_the_trace_on(always: Traced) -> None:
    with gatewayed(f"127.0.0.1:{always.server.ports.grpc}") as gateway:
        headers = {"content-type": "application/json", "traceparent": SAMPLED}
        assert gateway.send(f"/{RECOMMEND}", '{"k": 3}', headers).status == 200
        # It is no reason to refuse a call: the trace begins anew.
        bad = {**headers, "traceparent": "zq-state"}
        assert gateway.send("/steersman.v1.ModelService/GetModelInfo", "{}", bad).status == 200
        assert gateway.send(f"/{RECOMMEND}", '{"k": 99999}', headers).status == 400
    by_name: dict[str, list[ReadableSpan]] = {}
    for span in always.spans(8):
        by_name.setdefault(span.name, []).append(span)
    web, other = by_name[f"POST /{RECOMMEND}"], by_name["POST /steersman.v1.ModelService/GetModelInfo"]
    assert [span.attributes and span.attributes["http.response.status_code"] for span in web] == [200, 400]
    assert [span.attributes and span.attributes.get("error.type") for span in web] == [None, "400"]
    assert {f"{span.context.trace_id:032x}" for span in web} == {TRACE}
    assert other[0].parent is None
    calls = {span.parent and span.parent.span_id for span in by_name[RECOMMEND]}
    assert calls == {span.context.span_id for span in web}
    assert "zq-" not in other[0].to_json()


def test_a_caller_may_ask_for_none_and_probes_make_none(always: Traced) -> None:
    always.server.recommendation.Recommend(RecommendRequest(k=3), metadata=sent(UNSAMPLED))
    health: Any = HealthStub(always.server.channel)
    health.Check(HealthCheckRequest())
    # The store is probed, and labels are read, once a second: that belongs to no call.
    always.spans(0)


def test_calls_are_sampled_unless_their_caller_decides(bundle_dir: Path, tmp_path: Path) -> None:
    with traced(tmp_path, bundle_dir, 0.0) as never:
        never.server.recommendation.Recommend(RecommendRequest(k=3))
        never.spans(0)
        never.server.recommendation.Recommend(RecommendRequest(k=3), metadata=sent(SAMPLED))
        assert {span.name for span in never.spans(3)} == {RECOMMEND, "queue", "batch"}


def test_a_receiver_that_is_away_holds_up_nothing() -> None:
    """Its spans are dropped at the end of the process, which otherwise would wait for longer than the test may take."""
    tracing = OpenTelemetry(exporter("http://127.0.0.1:9"), 1.0, "test")
    with tracing.serving("grpc", RECOMMEND, ""):
        tracing.served("OK", "")
    tracing.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "127.0.0.1:4317",
        "ftp://h:1",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://[::1",
        "http://u:zq@h:4317",
        "http://h:4317/v1",
    ],
)
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(ValueError, match="has to be http://HOST:PORT") as refused:
        checked_endpoint(endpoint)
    assert "zq" not in str(refused.value)


def test_an_endpoint_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steersman_service.telemetry.traces.PACKAGES", ("opentelemetry.nothing",))
    with pytest.raises(ValueError, match=r"pip install 'steersman\[traces\]'"):
        checked_endpoint("http://127.0.0.1:4317")


def test_nothing_is_made_while_traces_are_off() -> None:
    off = traces()
    assert not off.on
    with off.serving("grpc", RECOMMEND, SAMPLED), off.asking("redis", "visit"):
        assert (off.context(), off.header(), off.trace_id()) == (b"", (), "")
