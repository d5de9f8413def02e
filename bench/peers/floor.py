"""What no server can be faster than: ONNX Runtime in a loop on the same histories, and a gRPC server of Python that answers nothing."""

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.peers.client import Message, Turn
from bench.peers.contestant import Process
from bench.peers.served.ranker import Ranker, Request

BATCHES = (1, 4, 16, 32)
SERVICE, METHOD = "bench.Echo", "Echo"


def ort_requests_per_second(ranker: Ranker, requests: Iterator[Request], seconds: float) -> dict[str, float]:
    """One thread, by the size of batches ("32"), each of requests in the order of their lengths so that hardly anything is padding.

    Each size has turns of an equal share of `seconds`; the figure is the median of three.
    """
    pool = list(itertools.islice(requests, 1024))
    pool.sort(key=lambda request: min(len(request.history), ranker.length))
    share = seconds / len(BATCHES) / 3
    found = {size: [_requests_per_second(ranker, pool, size, share) for _ in range(3)] for size in BATCHES}
    return {str(size): statistics.median(rates) for size, rates in found.items()}


def echo(port: int, work: Path) -> Process:
    """grpc.aio on uvloop, bytes in and out."""
    return Process("echo", [sys.executable, "-m", "bench.peers.floor", str(port)], work / "log", {})


def echo_turn() -> Turn:
    return [Message(f"/{SERVICE}/{METHOD}", bytes(500))]


def _requests_per_second(ranker: Ranker, pool: Sequence[Request], size: int, seconds: float) -> float:
    batches = [pool[begin : begin + size] for begin in range(0, len(pool), size)]
    random.Random(0).shuffle(batches)  # so that all lengths are had, whenever the time is over
    done, start = 0, time.perf_counter()
    for batch in itertools.cycle(batches):
        ranker.rank(batch)
        done += len(batch)
        if (passed := time.perf_counter() - start) >= seconds:
            break
    return done / passed


async def _serve(port: int) -> None:
    async def answer(request: bytes, context: object) -> bytes:
        return b"nothing"

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args().port))
