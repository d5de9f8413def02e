"""Traces of a real server: spans of three processes, received over OTLP, make one tree, and the log names it."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

RECOMMEND = "steersman.v1.RecommendationService/Recommend"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
COMMAND = "serve --port 0 --metrics-port 0 --http-port 0 --http on --engines 1 --inference-threads 1 --log-format json --log-level debug"


class Span(NamedTuple):
    """As it was received."""

    name: str
    process: str
    stage: str
    """The attribute deployment.environment.name."""
    number: str
    parent: str


class Receiver(TraceServiceServicer):
    """Keeps the spans of one trace."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.received = threading.Condition()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        with self.received:
            for of_process in request.resource_spans:
                told = {each.key: each.value.string_value for each in of_process.resource.attributes}
                for span in (span for scope in of_process.scope_spans for span in scope.spans):
                    if span.trace_id.hex() == TRACE:
                        process, stage = told["steersman.process"], told["deployment.environment.name"]
                        kept = Span(span.name, process, stage, span.span_id.hex(), span.parent_span_id.hex())
                        self.spans[span.name] = kept
            self.received.notify_all()
        return ExportTraceServiceResponse()

    def wait_for(self, count: int) -> None:
        with self.received:
            assert self.received.wait_for(lambda: len(self.spans) >= count, 60), self.spans


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    receiver, server = Receiver(), grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_one_trace_across_the_processes(bundle_dir: Path, tmp_path: Path) -> None:
    with receiving() as (receiver, endpoint):
        told, first_exports = call(bundle_dir, tmp_path, endpoint, receiver)
    spans = receiver.spans
    tree = {name: (span.process, span.parent) for name, span in spans.items()}
    ids = {name: span.number for name, span in spans.items()}
    assert tree == {
        f"POST /{RECOMMEND}": ("gateway", PARENT),
        RECOMMEND: ("front_end", ids[f"POST /{RECOMMEND}"]),
        "redis visit": ("front_end", ids[RECOMMEND]),
        "engine submit": ("front_end", ids[RECOMMEND]),
        "queue": ("engine_host", ids["engine submit"]),
        "batch": ("engine_host", ids["engine submit"]),
    }
    assert {span.stage for span in spans.values()} == {"test"}
    assert first_exports == len(tree)
    (line,) = [line for line in told if line["event"] == "call" and line["method"] == f"/{RECOMMEND}"]
    assert (line["trace_id"], line["request_id"]) == (TRACE, "mine")
    # Nothing but calls has one.
    assert not [line for line in told if "trace_id" in line and line["event"] != "call"]


def call(bundle: Path, data: Path, endpoint: str, receiver: Receiver) -> tuple[list[dict[str, Any]], int]:
    """Serves, asks once over HTTP, and drains. The log, and how many spans had come before the drain."""
    # What OpenTelemetry reads itself: what the spans say of the server, and how soon they are sent.
    environment = os.environ | {
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    command = [
        sys.executable,
        "-m",
        "steersman_service",
        *COMMAND.split(),
        "--bundle",
        str(bundle),
        "--data",
        str(data),
    ]
    command += ["--traces-endpoint", endpoint, "--traces-sample", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            lines: list[dict[str, Any]] = []
            while not lines or lines[-1]["event"] != "ready":
                lines.append(json.loads(server.stderr.readline()))
            url, headers = f"{lines[-1]['http']}/{RECOMMEND}", {"content-type": "application/json"}
            body = json.dumps({"k": 3, "sessionId": "s", "requestId": "mine"}).encode()
            headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
                assert json.load(answer)["items"]
            receiver.wait_for(6)
            sent = len(receiver.spans)
            server.send_signal(signal.SIGTERM)
            lines += [json.loads(line) for line in server.stderr]
            assert server.wait(60) == 0
        finally:
            server.kill()
    return lines, sent


def test_an_endpoint_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    endpoint = "http://user:secret@collector:4317"
    command = [
        sys.executable,
        "-m",
        "steersman_service",
        "serve",
        "--data",
        str(tmp_path),
        "--traces-endpoint",
        endpoint,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("settings: traces_endpoint: has to be http://HOST:PORT")
    assert "secret" not in done.stderr
