"""Goodput beyond the saturating rate: open loop, calls with a deadline, by turns at 1, 2 and 3 times that rate.

python -m bench.overload --bundle data/bundles/current

One server, as `steersman serve` starts it, and the deadline of the Python client. With another deadline, `--max-waiting-calls` goes with
it: about a fifth of what is answered within it, as docs/runbook/SteersmanCallsUnseen.md says. The saturating rate is the highest that was
found at which all but 1% of calls are answered within their deadline, in one of two tries. Goodput are calls answered within it, a second;
the best is the median of the rate with the highest one. The generator shares the machine's cores: what it takes itself is printed, and
lowers what the server can do.

`--burst 800` sends so many calls at once instead, with a minute to spare and the published retries.
"""

import argparse
import asyncio
import os
import random
import resource
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import uvloop

from bench.gateway import Server, served
from bench.http2_load import ANSWERED, Outcomes, poisson, sent
from bench.quartiles import Quartiles
from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.session_service_pb2 import Event
from steersman_client.channel import SERVICE_CONFIG
from steersman_service.bundle.bundle import Bundle, load_bundle

PATH = "/steersman.v1.RecommendationService/Recommend"
REQUESTS = 4096
SESSIONS = 500
CONNECTIONS = 4
ENOUGH = 0.99
REFUSED = "RESOURCE_EXHAUSTED"
# The second is what gRPC's core says.
TURNED_AWAY = (REFUSED, "CANCELLED")
GROWTH, HALVINGS = 1.5, 4
FACTORS = (1.0, 2.0, 3.0)
WAITING_PER_MS = 0.256
BURST_SECONDS = 60.0


class Run(NamedTuple):
    """At one rate."""

    rate: float
    seconds: float
    outcomes: Outcomes
    deadline: float
    front_end_cpu: float
    """Seconds of processor time."""
    own_cpu: float

    @property
    def good(self) -> int:
        return sum(took <= self.deadline for took in self.outcomes.seconds.get(ANSWERED, ()))

    @property
    def sent(self) -> int:
        return sum(map(len, self.outcomes.seconds.values()))

    @property
    def goodput(self) -> float:
        return self.good / self.seconds

    def told(self) -> str:
        answered = self.outcomes.seconds.get(ANSWERED, [])
        refused = self.outcomes.seconds.get(REFUSED, [])
        shown = "p50 {:.1f} p99 {:.1f} ms"
        parts = [
            f"{self.rate:6.0f}/s: goodput {self.goodput:6.1f}/s; sent {self.sent}",
            f"answered {len(answered)} (late {len(answered) - self.good}, {shown.format(*_ms(answered))})",
            f"refused {len(refused)} ({shown.format(*_ms(refused))})",
            f"others {self.others or 0}",
            f"cores: front end {self.front_end_cpu / self.seconds:.2f}, generator {self.own_cpu / self.seconds:.2f}",
            f"generator late p99 {_ms(self.outcomes.late_seconds)[1]:.1f} ms",
        ]
        return ", ".join(parts)

    @property
    def others(self) -> dict[str, int]:
        return {name: len(each) for name, each in self.outcomes.seconds.items() if name not in (ANSWERED, REFUSED)}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.overload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--deadline-ms", type=int, default=1000)
    parser.add_argument(
        "--waiting", type=int, help="calls that may wait to be looked at; 256 for a second unless given"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, help="takes this for the saturating rate, calls/s")
    parser.add_argument("--first-rate", type=float, default=300)
    parser.add_argument(
        "--sessions",
        type=float,
        default=0.5,
        help="share of calls that append to a session and read it",
    )
    parser.add_argument("--burst", type=int, help="calls that are sent at once, --rounds times, in place of the rates")
    parser.add_argument(
        "--serve", action="append", default=[], help="a flag of `steersman serve`, as --serve=--engines=1"
    )
    arguments = parser.parse_args()
    messages = _messages(load_bundle(arguments.bundle, "onnx"), arguments.sessions)
    waiting = arguments.waiting or max(1, round(WAITING_PER_MS * arguments.deadline_ms))
    print(f"deadlines of {arguments.deadline_ms} ms; at most {waiting} calls wait to be looked at", flush=True)
    with served(arguments.bundle, f"--max-waiting-calls={waiting}", *arguments.serve) as server:
        if arguments.burst:
            for _ in range(arguments.rounds):
                print(
                    f"of {arguments.burst} at once: {dict(uvloop.run(_burst(server.grpc, messages, arguments.burst)))}"
                )
            return
        bench = Bench(server, messages, arguments.deadline_ms, arguments.seconds)
        bench.run(arguments.first_rate)
        rate = arguments.rate or bench.saturating(arguments.first_rate)
        print(f"saturating rate: {rate:.0f} calls/s", flush=True)
        turns: dict[float, list[Run]] = {factor: [] for factor in FACTORS}
        bench.run(FACTORS[-1] * rate)
        before = _resident(server)
        for number in range(arguments.rounds):
            for factor in FACTORS[number % 3 :] + FACTORS[: number % 3]:
                turns[factor].append(run := bench.run(factor * rate))
                print(f"  {factor:g}x {run.told()}", flush=True)
        _print(bench, turns, before, _resident(server))


class Bench:
    def __init__(self, server: Server, messages: Sequence[bytes], deadline_ms: int, seconds: float) -> None:
        self._server, self._messages, self._deadline_ms, self._seconds = server, messages, deadline_ms, seconds
        self._seed = 0
        self.best = 0.0
        """Goodput of the best turn at any rate."""

    def run(self, rate: float) -> Run:
        self._seed += 1
        host, _, port = self._server.grpc.rpartition(":")
        dues = [*poisson(rate, self._seconds, self._seed)]
        start = self._seed * 997 % len(self._messages)
        messages = [*self._messages[start:], *self._messages[:start]]
        cpu, own = _cpu_seconds(self._server.front_end_pid), _own_cpu()
        outcomes = uvloop.run(sent(host, int(port), PATH, messages, dues, self._deadline_ms, CONNECTIONS))
        cpu, own = _cpu_seconds(self._server.front_end_pid) - cpu, _own_cpu() - own
        run = Run(rate, self._seconds, outcomes, self._deadline_ms / 1e3, cpu, own)
        self.best = max(self.best, run.goodput)
        time.sleep(0.3)
        return run

    def saturating(self, rate: float) -> float:
        held, failed = 0.0, 0.0
        for _ in range(12):
            ok = self._holds(rate) or self._holds(rate)
            held, failed = (rate, failed) if ok else (held, rate)
            if failed and (failed - held) < 0.08 * failed:
                break
            rate = (held + failed) / 2 if failed else rate * GROWTH
        if not held:
            raise SystemExit("no rate was held: begin with a smaller --first-rate")
        return held

    def _holds(self, rate: float) -> bool:
        ok = (run := self.run(rate)).good >= ENOUGH * run.sent
        print(f"  {'held  ' if ok else 'failed'} {run.told()}", flush=True)
        return ok


async def _burst(address: str, messages: Sequence[bytes], count: int) -> Counter[str]:
    """What became of calls that one client sends at once, by status."""
    async with grpc.aio.insecure_channel(address, [("grpc.service_config", SERVICE_CONFIG)]) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
        await call(messages[0])

        async def ended(number: int) -> str:
            try:
                await call(messages[number % len(messages)], timeout=BURST_SECONDS)
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return "OK"

        return Counter(await asyncio.gather(*map(ended, range(count))))


def _print(bench: Bench, turns: dict[float, list[Run]], before: int, after: int) -> None:
    best = max(Quartiles.of([run.goodput for run in runs]).median for runs in turns.values())
    print(f"best goodput: {best:.1f}/s; of a single turn at any rate: {bench.best:.1f}/s")
    for factor, runs in turns.items():
        low, median, high = Quartiles.of([run.goodput / best for run in runs])
        refused = _ms([took for run in runs for each in TURNED_AWAY for took in run.outcomes.seconds.get(each, [])])
        late = sum(len(run.outcomes.seconds.get(ANSWERED, [])) - run.good for run in runs)
        others = sum((Counter(run.others) for run in runs), Counter[str]())
        print(
            f"{factor:g}x: goodput {median:.2f} of the best ({low:.2f} to {high:.2f}); refused within {refused[0]:.1f} ms (p50),"
            f" {refused[1]:.1f} ms (p99); answered late {late}; others {dict(others) or 0}"
        )
    said = sum((run.outcomes.messages for run in turns[FACTORS[-1]]), Counter[str]())
    print(f"at {FACTORS[-1]:g}x refusals said: {dict(said.most_common(6))}")
    print(f"resident memory of all processes: {before >> 20} MiB before, {after >> 20} MiB after")


def _messages(bundle: Bundle, sessions: float) -> list[bytes]:
    """Histories of any length in the window; every other call is steered by a concept."""
    rng, chance = np.random.default_rng(0), random.Random(0)
    item_ids, concepts = (column.to_numpy() for column in (bundle.items["item_id"], bundle.concepts["name"]))
    made = []
    for number in range(REQUESTS):
        controls = [Control(concept=rng.choice(concepts), operation=OPERATION_ADD, strength=0.5)] if number % 2 else []
        if chance.random() < sessions:
            event = Event(event_id=f"e{chance.getrandbits(64):x}", item_id=rng.choice(item_ids))
            request = RecommendRequest(
                session_id=f"s{chance.randrange(SESSIONS)}", new_events=[event], controls=controls
            )
        else:
            history = rng.choice(item_ids, int(rng.integers(1, bundle.manifest.window.length)))
            request = RecommendRequest(history=History(item_ids=history), controls=controls)
        made.append(request.SerializeToString())
    return made


def _ms(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    return (1e3 * float(np.percentile(seconds, 50)), 1e3 * float(np.percentile(seconds, 99))) if seconds else (0.0, 0.0)


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident(server: Server) -> int:
    """Bytes of the supervisor and its children, pages that they share counted in each."""
    parent = server.pid
    pids = [str(parent), *Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
