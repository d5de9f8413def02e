"""Bundles changed again and again under load: requests that failed, answers that mix two bundles, memory, and what a swap does to latency.

python -m bench.swaps --bundles data/bundles/VERSION data/bundles/OTHER --swaps 100

One server, as `steersman serve` starts it, on copies of the bundles. Clients without retries ask at a fixed rate in all, by history, with a
concept; each answer is compared with the list and the edits that the bundle which it names gives by itself. The link is
turned to and fro; the next swap begins when nothing is left of the one before. Memory is the resident memory of all processes of the
server but the session store, as often as the first bundle is served again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np

from bench.quartiles import Quartiles
from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.release_service_pb2 import RELEASE_STATE_DRAINING, RELEASE_STATE_LOADING, ListReleasesRequest
from steersman.v1.release_service_pb2_grpc import ReleaseServiceStub
from steersman_client import load

CLIENTS, HISTORIES, K = 16, 64, 10
CONCEPT = "genres:Horror"
SETTLED_SECONDS, TICK_SECONDS = 1.0, 0.02
LONGEST_SWAP_SECONDS = 300.0
# Swaps after which the allocators have what they need.
FIRST = 6

Told = tuple[Sequence[tuple[str, float]], Sequence[tuple[int, float]]]
Expected = Mapping[str, Mapping[tuple[str, ...], Told]]
"""Items and edits, by bundle version and history."""


class Swap(NamedTuple):
    begun: float
    served: float
    """All calls go to the new bundle."""
    settled: float
    """Nothing is left of the old one."""
    resident_bytes: int


class Answered(NamedTuple):
    begun: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.swaps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundles", type=Path, nargs=2, required=True, metavar="FOLDER")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second, of all clients")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a file for the figures, as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="steersman-swaps-") as name:
        place = Path(name)
        folders = [Path(shutil.copytree(each.resolve(), place / each.resolve().name)) for each in asked.bundles]
        expected = expected_of(folders)
        link = place / "current"
        link.symlink_to(folders[0].name)
        flags = ["--workers", str(asked.workers), "--engines", str(asked.engines)]
        with served(place, link, flags) as (address, process):
            figures = measured(address, process.pid, link, folders, expected, asked.swaps, asked.rate)
    print(json.dumps(figures, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(figures, indent=2))
    if figures["failed"] or figures["mixed"] or figures["memory_growth"] > 0.02:
        sys.exit("it has not held: failed and mixed must be 0, growth of memory at most 0.02")


def expected_of(folders: Sequence[Path]) -> Expected:
    """What each bundle says by itself, for histories of items of the first one."""
    expected, histories = {}, list[tuple[str, ...]]()
    for folder in folders:
        with load(folder) as local:
            if not histories:
                ids = sorted(item.item_id for item in local.items())
                random = np.random.default_rng(0)
                histories = [tuple(random.choice(ids, 12, replace=False).tolist()) for _ in range(HISTORIES)]
            answers = {each: told(local.recommend(each, controls={CONCEPT: 0.5}, k=K)) for each in histories}
            expected[folder.name] = answers
    return expected


def told(answer: Any) -> Told:
    edits = [(edit.feature_id, round(edit.strength, 2)) for each in answer.applied_controls for edit in each.edits]
    return [(item.item_id, round(item.score, 2)) for item in answer.items], edits


def agree(one: Told, other: Told) -> bool:
    """Up to rounding: the same items at the same scores, and the same features turned as far."""
    scores, wanted = (dict(each[0]) for each in (one, other))
    features, turned = (dict(each[1]) for each in (one, other))
    return (
        len(scores.keys() & wanted.keys()) >= K - 1
        and all(abs(scores[item] - wanted[item]) < 0.05 for item in scores.keys() & wanted.keys())
        and features.keys() == turned.keys()
        and all(abs(features[feature] - turned[feature]) < 0.05 for feature in features)
    )


class Load:
    """Asks until the end of the block."""

    def __init__(self, address: str, expected: Expected, rate: float) -> None:
        self._address, self._expected, self._rate = address, expected, rate
        self._stop = threading.Event()
        self.answered: list[Answered] = []
        self.failed: list[str] = []
        self.mixed = 0
        self.by_version: dict[str, int] = dict.fromkeys(expected, 0)
        self._threads = [threading.Thread(target=self._ask, args=(place,)) for place in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failed: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, place: int) -> None:
        histories = [*next(iter(self._expected.values()))][place::CLIENTS]
        controls = [Control(concept=CONCEPT, operation=OPERATION_ADD, strength=0.5)]
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        turn = time.monotonic() + place / self._rate
        with grpc.insecure_channel(self._address, options) as channel:
            recommend = RecommendationServiceStub(channel).Recommend
            while not self._stop.is_set():
                for history in histories:
                    self._stop.wait(max(0.0, turn - time.monotonic()))
                    turn = max(turn + CLIENTS / self._rate, time.monotonic() - 1)
                    self._one(recommend, history, controls)

    def _one(self, recommend: Any, history: tuple[str, ...], controls: Sequence[Control]) -> None:
        request = RecommendRequest(history=History(item_ids=history), controls=controls, k=K)
        begun = time.monotonic()
        try:
            answer = recommend(request, timeout=30)
        except grpc.RpcError as error:
            self.failed.append(f"{error.code().name}: {error.details()}")
            return
        self.answered.append(Answered(begun, time.monotonic() - begun))
        self.by_version[answer.bundle_version] += 1
        self.mixed += not agree(told(answer), self._expected[answer.bundle_version][history])


def measured(
    address: str, pid: int, link: Path, folders: Sequence[Path], expected: Expected, swaps: int, rate: float
) -> dict[str, Any]:
    with grpc.insecure_channel(address) as channel, Load(address, expected, rate) as calls:
        releases = ReleaseServiceStub(channel)
        time.sleep(5)
        steady_until = time.monotonic()
        made = []
        for number in range(1, swaps + 1):
            made.append(swapped(releases, link, folders[number % 2], pid))
            print(f"swap {number}: {made[-1].served - made[-1].begun:.2f} s", file=sys.stderr, flush=True)
        time.sleep(5)
    return summary(calls, made, steady_until)


def swapped(releases: ReleaseServiceStub, link: Path, folder: Path, pid: int) -> Swap:
    begun = served_at = time.monotonic()
    new = link.with_name("new")
    new.symlink_to(folder.name)
    new.replace(link)
    served = False
    while time.monotonic() - begun < LONGEST_SWAP_SECONDS:
        time.sleep(TICK_SECONDS)
        listed = releases.ListReleases(ListReleasesRequest()).releases
        if not served and listed[0].name == folder.name:
            served, served_at = True, time.monotonic()
        if served and not any(each.state in (RELEASE_STATE_LOADING, RELEASE_STATE_DRAINING) for each in listed):
            settled = time.monotonic()
            time.sleep(SETTLED_SECONDS)
            return Swap(begun, served_at, settled, resident_bytes(pid))
    sys.exit(f"{folder.name} was not served within {LONGEST_SWAP_SECONDS:g} s: {listed}")


def summary(calls: Load, made: Sequence[Swap], steady_until: float) -> dict[str, Any]:
    during = [each.seconds for each in calls.answered if any(swap.begun <= each.begun <= swap.settled for swap in made)]
    steady = [each.seconds for each in calls.answered if each.begun < steady_until]
    between = [
        each.seconds
        for each in calls.answered
        if each.begun >= steady_until and not any(swap.begun <= each.begun <= swap.settled for swap in made)
    ]
    # Of the first bundle alone: two bundles are of two sizes.
    resident = [swap.resident_bytes for swap in made[1::2]]
    early, late = resident[FIRST // 2 : FIRST // 2 + 5], resident[-5:]
    growth = float(np.median(late) / np.median(early) - 1) if early else float("nan")
    return {
        "swaps": len(made),
        "requests": len(calls.answered) + len(calls.failed),
        "failed": len(calls.failed),
        "failures": sorted(set(calls.failed))[:5],
        "mixed": calls.mixed,
        "answered_by": {version[:8]: count for version, count in calls.by_version.items()},
        "seconds_until_served": spread([swap.served - swap.begun for swap in made]),
        "seconds_until_settled": spread([swap.settled - swap.begun for swap in made]),
        "p50_ms": {"before": ms(steady, 50), "between": ms(between, 50), "during": ms(during, 50)},
        "p99_ms": {"before": ms(steady, 99), "between": ms(between, 99), "during": ms(during, 99)},
        "max_ms": {"before": ms(steady, 100), "between": ms(between, 100), "during": ms(during, 100)},
        "resident_mb": [round(each / 1e6, 1) for each in resident],
        "memory_growth": round(growth, 4),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    quartiles = Quartiles.of(values)
    return {**{name: round(value, 3) for name, value in quartiles._asdict().items()}, "most": round(max(values), 3)}


def ms(seconds: Sequence[float], percentile: float) -> float | None:
    return round(1e3 * float(np.percentile(seconds, percentile)), 2) if seconds else None


def resident_bytes(pid: int) -> int:
    """Of the process and all below it, but the session store."""
    total, pids = 0, [pid]
    for each in pids:
        try:
            command = Path(f"/proc/{each}/comm").read_text()
            pids += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
            pages = int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            continue
        total += 0 if "valkey" in command or "redis" in command else pages * os.sysconf("SC_PAGE_SIZE")
    return total


@contextmanager
def served(place: Path, link: Path, flags: Sequence[str]) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    command = [
        sys.executable,
        "-m",
        "steersman_service",
        "serve",
        "--port",
        "0",
        "--http",
        "off",
        "--metrics-port",
        "0",
    ]
    command += ["--data", str(place / "data"), "--bundle", str(link), "--log-format", "json"]
    command += ["--bundle-watch-seconds", "0.2", "--list-change-sample", "0", *flags]
    log = place / "log"
    with log.open("w") as file, subprocess.Popen(command, stderr=file, text=True) as process:
        try:
            yield address_of(process, log), process
        finally:
            process.terminate()
            process.wait()
            for line in log.read_text().splitlines():
                if '"level": "error"' in line:
                    print(line, file=sys.stderr)


def address_of(process: "subprocess.Popen[str]", log: Path) -> str:
    while process.poll() is None:
        if ready := next((line for line in log.read_text().splitlines() if '"event": "ready"' in line), None):
            return str(json.loads(ready)["address"])
        time.sleep(0.1)
    sys.exit(f"the server does not start: {log.read_text()}")


if __name__ == "__main__":
    main()
