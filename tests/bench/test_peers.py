"""The benchmark beside other servers: its arithmetic, its report, its client and its one graph. Speeds themselves are not tested."""

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from bench.peers.client import Message, grpc_generator, http_generator
from bench.peers.graphs import K, write_graphs
from bench.peers.report import figures, write_report
from bench.peers.served.ranker import Ranker, Request, pack, unpack
from bench.peers.traffic import FEATURES, TURNS, Traffic
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.window import window_start
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import Edits, EngineRequest

FACTS = {
    "machine": "x86_64, 2 cores, a processor",
    "onnxruntime": "1.0",
    "data": "ml-1m",
    "histories": {"users": 6040, "mean": 165.5, "median": 96},
    "shapes": {"large": "D=128, T=200, N=3416", "small": "D=64, T=50, N=3416"},
    "seconds": 8.0,
    "copies": 1,
    "serve": "",
}


def measured(session: float, stateless: float, p99: float, single: float) -> dict[str, Any]:
    return {
        "session": {"per_second": session},
        "stateless": {"per_second": stateless, "server_us": 900.0, "client_us": 20.0},
        "at_rate": {"p99_ms": p99},
        "single": {"p50_ms": single},
    }


PARTS: dict[str, Any] = {
    "floor": {
        "ort_large": {"1": 900.0, "32": 1250.0},
        "ort_small": {"1": 5000.0},
        "echo_per_second": 5355.0,
        "echo_client_us": 20.0,
    },
    "triton": measured(500.0, 600.0, 40.0, 1.5),
    "triton-alone": measured(1000.0, 800.0, 20.0, 1.5),
    "steersman": measured(2500.0, 1200.0, 10.0, 0.6)
    | {"kinds": {"plain": 2.0, "steered": 2.1, "concept": 2.4, "controls_only": 0.3}},
    "ray": {"why_not": "ray is not installed"},
    "mlserver": measured(80.0, 90.0, 9000.0, 3.0) | {"at_rate": {"p99_ms": 9000.0, "per_second": 90.0, "rate": 420.0}},
}


def test_figures_are_ratios_to_triton_and_to_the_fastest_loop() -> None:
    assert figures(PARTS) == pytest.approx(
        {
            "session_x_triton": 5.0,
            "stateless_x_triton": 2.0,
            "p99_x_triton": 0.25,
            "single_x_triton": 0.4,
            "steered_x_plain": 1.05,
            "concept_x_plain": 1.2,
            "controls_only_x": 7.0,
            "server_x_ort": 0.96,
            "session_x_triton_alone": 2.5,
            "stateless_x_triton_alone": 1.5,
            "single_x_triton_alone": 0.4,
        }
    )


@pytest.mark.parametrize("missing", ["triton", "floor", "steersman"])
def test_a_figure_that_was_not_measured_is_left_out(missing: str) -> None:
    without = figures({name: part for name, part in PARTS.items() if name != missing} | {"triton": {"why_not": "."}})
    assert not any(key.endswith("x_triton") for key in without)
    assert ("server_x_ort" in without) == (missing == "triton")


def test_the_report_has_every_figure_and_says_who_is_missing(tmp_path: Path) -> None:
    write_report(PARTS, FACTS, tmp_path)
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["session_x_triton"] == 5.0
    assert document["measured"]["triton"]["single"]["p50_ms"] == 1.5
    page = (tmp_path / "bench.md").read_text()
    assert "| Ray Serve | not measured: ray is not installed |" in page
    assert "| Steersman | 2,500 | 5 | 1,200 | 2 | 10 | 0.25 | 0.6 | 0.4 | 900, 20 |" in page
    assert 'make bench BENCH="--data ml-1m --seconds 8 --copies 1"' in page
    assert "| does not hold the rate |" in page
    assert "| 9,000 |" not in page
    assert "LitServe |" not in page  # nothing was tried


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return load_bundle(bundle_dir, "onnx")


@pytest.fixture(scope="module")
def histories(bundle: Bundle) -> list[Any]:
    rng, items = np.random.default_rng(3), len(bundle.items_ND)
    return [rng.integers(items, size=size) for size in (3, 14, 40, 60, 90)]


def test_the_one_graph_answers_as_the_engine_does(bundle: Bundle, histories: list[Any], tmp_path: Path) -> None:
    write_graphs(bundle, tmp_path)
    requests = list(itertools.islice(Traffic(bundle, histories).stateless(), 8))
    requests = [unpack(pack(request)) for request in requests]
    rows_BK, scores_BK = Ranker(tmp_path).rank(requests)
    alone_BK, _ = Ranker(tmp_path, alone=True).rank(requests)
    np.testing.assert_array_equal(rows_BK, alone_BK)
    engine = Engine(Graphs(bundle, OnnxBackend(bundle, threads=1)))
    for request, rows_K, scores_K in zip(requests, rows_BK, scores_BK, strict=True):
        (answer,) = engine.run([_work(bundle, request)])
        count = len(answer.rows_K)
        np.testing.assert_array_equal(rows_K[:count], answer.rows_K)
        np.testing.assert_allclose(scores_K[:count], answer.scores_K, atol=1e-4)


def _work(bundle: Bundle, request: Request) -> EngineRequest:
    window = bundle.manifest.window
    start = window_start(len(request.history), window.length, window.stride)
    eligible_N = np.ones(len(bundle.items_ND), np.bool_)
    eligible_N[request.history] = False
    features_E, gains_E, strengths_E = request.edits_3E
    edits = Edits(features_E.astype(np.int64), gains_E, strengths_E)
    return EngineRequest(request.history[start:].astype(np.int64), edits, eligible_N=eligible_N, k=K)


def test_stateless_requests_do_not_repeat_and_half_are_steered(bundle: Bundle, histories: list[Any]) -> None:
    requests = list(itertools.islice(Traffic(bundle, histories).stateless(), 3 * len(histories)))
    window = bundle.manifest.window
    shown = [
        request.history[window_start(len(request.history), window.length, window.stride) :].tobytes()
        for request in requests
    ]
    assert len(set(shown)) == len(shown)
    assert [request.edits_3E.shape[1] for request in requests[:4]] == [0, FEATURES] * 2


def test_sessions_append_one_event_a_turn(bundle: Bundle, histories: list[Any]) -> None:
    for session in Traffic(bundle, histories).sessions(6):
        assert len(session.turns) == TURNS
        before = session.before
        for turn in session.turns:
            np.testing.assert_array_equal(turn.history[:-1], before)
            before = turn.history


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a gRPC server that answers what it is sent, and refuses what it is asked to."""
    loop, started, ports = asyncio.new_event_loop(), threading.Event(), []

    async def answer(request: bytes, context: Any) -> bytes:
        if request == b"refuse":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "as asked")
        return request

    async def start() -> grpc.aio.Server:
        server = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": handler}),))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        started.set()
        return server

    server = None

    def run() -> None:
        nonlocal server
        server = loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    yield ports[0]
    assert server is not None
    asyncio.run_coroutine_threadsafe(server.stop(None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_client_counts_turns_of_real_grpc(echo: int) -> None:
    generator = grpc_generator(echo, connections=2, streams=4)
    good = Message("/a.B/C", bytes(3000))
    # More in all than a window of HTTP/2: it has to wait for the server to open it again.
    done = generator.closed(iter([[[good, good]]] * 200), seconds=30.0)
    assert (done.turns, done.failed) == (200, 0)
    assert len(done.latencies) == 200
    generator.close()


def test_the_client_tells_errors_from_answers(echo: int) -> None:
    generator = grpc_generator(echo, connections=1, streams=2)
    turns = [[Message("/a.B/C", body)] for body in (b"one", b"refuse", b"two")] + [[Message("/a.B/Unknown", b"one")]]
    assert generator.closed(iter([turn] for turn in turns), seconds=30.0)[::3] == (2, 2)
    generator.close()


def test_an_open_loop_makes_every_turn_that_is_due(echo: int) -> None:
    generator = grpc_generator(echo, connections=2, streams=1)
    done = generator.open(itertools.repeat([Message("/a.B/C", b"one")]), [0.0] * 20 + [0.01, 0.02])
    assert (done.turns, done.failed) == (22, 0)
    generator.close()


def test_the_client_speaks_http() -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500 if body == b"refuse" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        generator = http_generator(server.server_port, connections=1, streams=2)
        turns = [[Message("/predict", body)] for body in (b"one", b"refuse", b"two")]
        assert generator.closed(iter([turn] for turn in turns), seconds=30.0)[::3] == (2, 1)
        # More at a time than there are connections.
        assert generator.open(iter(turns * 4), [0.0] * 12)[::3] == (8, 4)
        generator.close()
        server.shutdown()
        thread.join()
