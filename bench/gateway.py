"""What the gateway costs a call beside direct gRPC, by turns in the same run, and what load on it does to callers of gRPC.

python -m bench.gateway --bundle data/bundles/current

One server, as `steersman serve` starts it. Each round asks the same requests one after the other, over gRPC, over Connect binary and over
Connect JSON; who goes first moves on. A second part asks over gRPC while others call at a rate: none, over gRPC, over the gateway.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
import numpy as np
from google.protobuf.json_format import MessageToJson

from bench.quartiles import Quartiles
from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_service.bundle.bundle import Bundle, load_bundle

PATH = "/steersman.v1.RecommendationService/Recommend"
JSON, PROTO = "application/json", "application/proto"
REQUESTS = 256
Call = Callable[[RecommendRequest], object]


class Server(NamedTuple):
    """One that is ready."""

    pid: int
    grpc: str
    http: str
    metrics: str
    log: Path
    gateway_pid: int
    front_end_pid: int


class Turn(NamedTuple):
    ms: float
    """Median of the turn's calls, as the caller sees them."""
    gateway_ms: float
    """Processor time of the gateway, a call."""
    front_end_ms: float


def main() -> None:
    """Prints medians and quartiles over rounds."""
    parser = argparse.ArgumentParser(
        "python -m bench.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=100, help="of a turn")
    parser.add_argument("--rate", type=float, default=50, help="of the load in the second part, calls/s")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, "onnx")
    with served(arguments.bundle) as server:
        for name, controls in (("plain", 0), ("one concept", 1), ("six concepts", 6)):
            _print_costs(name, _costs(server, _requests(bundle, controls), arguments.rounds, arguments.calls))
        _print_beside(
            _beside(server, _requests(bundle, 1), arguments.rounds, arguments.calls, arguments.rate), arguments.rate
        )


def _requests(bundle: Bundle, controls: int) -> list[RecommendRequest]:
    """Histories of any length in the window, each steered by so many concepts."""
    rng = np.random.default_rng(0)
    item_ids, concepts = (column.to_numpy() for column in (bundle.items["item_id"], bundle.concepts["name"]))
    made = []
    for _ in range(REQUESTS):
        history = History(item_ids=rng.choice(item_ids, int(rng.integers(1, bundle.manifest.window.length))))
        names = rng.choice(concepts, controls, replace=False)
        steered = [Control(concept=name, operation=OPERATION_ADD, strength=0.5) for name in names]
        made.append(RecommendRequest(history=history, controls=steered))
    return made


@contextmanager
def served(bundle: Path, *flags: str) -> Iterator[Server]:
    """`flags` of `steersman serve`."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        ports = [f"--{name}port=0" for name in ("", "http-", "metrics-")]
        command = [sys.executable, "-m", "steersman_service", "serve", *ports, "--http", "on", "--log-format", "json"]
        command += ["--bundle", str(bundle), "--data", folder, *flags]
        with log.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
            try:
                yield _when_ready(process, log)
            finally:
                process.terminate()


def _when_ready(process: "subprocess.Popen[bytes]", log: Path) -> Server:
    while process.poll() is None:
        if ready := next((line for line in log.read_text().splitlines() if '"ready"' in line), None):
            told = json.loads(ready)
            gateway, front_end = (_child(process.pid, name) for name in ("gateway", "front_end"))
            return Server(process.pid, told["address"], told["http"], told["metrics"], log, gateway, front_end)
        time.sleep(0.1)
    raise SystemExit(f"the server does not start: {log.read_text()}")


def _child(pid: int, module: str) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    wanted = f"steersman_service.processes.{module}".encode()
    return next(int(child) for child in children if wanted in Path(f"/proc/{child}/cmdline").read_bytes())


@contextmanager
def _over_grpc(server: Server) -> Iterator[Call]:
    with grpc.insecure_channel(server.grpc) as channel:
        call: Any = channel.unary_unary(PATH)
        yield lambda request: call(request.SerializeToString())


@contextmanager
def _over_http(server: Server, content_type: str) -> Iterator[Call]:
    connection = HTTPConnection(urlsplit(server.http).netloc)
    headers = {"content-type": content_type}

    def call(request: RecommendRequest) -> bytes:
        body = MessageToJson(request).encode() if content_type == JSON else request.SerializeToString()
        connection.request("POST", PATH, body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"{response.status}: {answer!r}")
        return answer

    yield call
    connection.close()


def _costs(server: Server, requests: Sequence[RecommendRequest], rounds: int, calls: int) -> dict[str, list[Turn]]:
    """Turns of each way. A first round warms up and is left out."""
    turns: dict[str, list[Turn]] = {"gRPC": [], "Connect binary": [], "Connect JSON": []}
    with _over_grpc(server) as direct, _over_http(server, PROTO) as binary, _over_http(server, JSON) as text:
        ways = list(zip(turns, (direct, binary, text), strict=True))
        for number in range(rounds + 1):
            begin = number % len(ways)
            for name, call in (*ways[begin:], *ways[:begin]):
                turn = _turn(server, call, requests, calls)
                if number:
                    turns[name].append(turn)
    return turns


def _turn(server: Server, call: Call, requests: Sequence[RecommendRequest], calls: int) -> Turn:
    pids = (server.gateway_pid, server.front_end_pid)
    before = [_cpu_seconds(pid) for pid in pids]
    times = []
    for _, request in zip(range(calls), cycle(requests), strict=False):
        start = time.perf_counter()
        call(request)
        times.append(time.perf_counter() - start)
    spent = [1e3 * (_cpu_seconds(pid) - then) / calls for pid, then in zip(pids, before, strict=True)]
    return Turn(1e3 * float(np.median(times)), *spent)


def _beside(
    server: Server, requests: Sequence[RecommendRequest], rounds: int, calls: int, rate: float
) -> dict[str, list[Turn]]:
    """Turns of a caller of gRPC beside no load, and beside the same load either way."""
    turns: dict[str, list[Turn]] = {"nobody else": [], "gRPC": [], "Connect JSON": []}
    with _over_grpc(server) as measured, _over_grpc(server) as direct, _over_http(server, JSON) as text:
        loads: list[tuple[str, Call | None]] = [("nobody else", None), ("gRPC", direct), ("Connect JSON", text)]
        for number in range(rounds):
            begin = number % len(loads)
            for name, load in (*loads[begin:], *loads[:begin]):
                with _load(load, requests, rate):
                    turns[name].append(_turn(server, measured, requests, calls))
    return turns


@contextmanager
def _load(call: Call | None, requests: Sequence[RecommendRequest], rate: float) -> Iterator[None]:
    """Calls at `rate` a second, on a thread of its own, while inside."""
    stop = threading.Event()

    def run() -> None:
        due = time.perf_counter()
        for request in cycle(requests):
            if stop.wait(max(0.0, due - time.perf_counter())):
                return
            due += 1 / rate
            assert call
            call(request)

    thread = threading.Thread(target=run if call else lambda: None)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _print_costs(name: str, turns: dict[str, list[Turn]]) -> None:
    direct = turns["gRPC"]
    for way, own in turns.items():
        more = Quartiles.of([turn.ms - base.ms for turn, base in zip(own, direct, strict=True)])
        told = [Quartiles.of([turn[field] for turn in own]) for field in range(3)]
        extra = "" if way == "gRPC" else f", more than gRPC by {_shown(more)}"
        print(
            f"{name}, {way}: {_shown(told[0])} ms{extra}; processor ms: gateway {_shown(told[1])}, front end {_shown(told[2])}"
        )


def _print_beside(turns: dict[str, list[Turn]], rate: float) -> None:
    alone = turns["nobody else"]
    for load, own in turns.items():
        ratio = Quartiles.of_ratios([turn.ms for turn in own], [base.ms for base in alone])
        print(
            f"a caller of gRPC beside {load} ({rate:g} calls/s): {_shown(Quartiles.of([t.ms for t in own]))} ms; x{_shown(ratio)}"
        )


def _shown(quartiles: Quartiles) -> str:
    low, median, high = (format(value, ".2f") for value in quartiles)
    return f"{median} ({low} to {high})"


if __name__ == "__main__":
    main()
