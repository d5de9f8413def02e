"""What is measured of one server: closed loops until it is saturated, an open loop at a rate, one at a time, and what steering costs."""

import gc
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.peers.client import Measured, Turn
from bench.peers.contestant import Contestant, Process
from bench.peers.served.ranker import Ranker, Request
from bench.peers.steersman import Steersman
from bench.peers.traffic import NO_EDITS, TURNS, Session, Traffic
from steersman.v1.control_pb2 import OPERATION_ADD, Control

CONNECTIONS, STREAMS = 8, 8
WARM_SECONDS = 2.0
MOST_PER_SECOND = 3000
"""Requests made ready for a second of a run, which ends early if a server answers more."""
TOLERANCE = 1e-3
"""Between the scores of a server and those of ONNX Runtime here."""
CHECKED = 12
SKIPPED = 5
"""Of each kind, until the server is warm."""
KINDS = ("plain", "steered", "concept", "controls_only")


class Wrong(Exception):
    """A server answers other items than ONNX Runtime does."""


class Course(NamedTuple):
    """How long things take."""

    seconds: float
    """Of each run, after a warm-up."""
    port: int
    warm_seconds: float = WARM_SECONDS


def check(contestant: Contestant, course: Course, traffic: Traffic, ranker: Ranker) -> None:
    """Asks for some answers before anything is timed. Raises Wrong unless they are the items that the graphs rank first."""
    for request in itertools.islice(traffic.stateless(), CHECKED):
        rows, scores = contestant.read(_last(contestant, course, contestant.turn(request)))
        _compare(contestant.name, ranker, request, rows, scores)


def check_sessions(contestant: Contestant, course: Course, sessions: Sequence[Session], ranker: Ranker) -> None:
    """The same for turns of sessions, which the server already knows the beginnings of."""
    for session, visit in zip(sessions, contestant.visits(sessions), strict=True):
        for request, turn in zip(session.turns, visit, strict=True):
            rows, scores = contestant.read(_last(contestant, course, turn))
            _compare(contestant.name, ranker, request, rows, scores)


def saturate(
    contestant: Contestant, process: Process, course: Course, visits: Sequence[Sequence[Turn]]
) -> dict[str, Any]:
    """A closed loop of 8 connections with 8 streams."""
    generator = contestant.generator(course.port, CONNECTIONS, STREAMS)
    before = process.processor_seconds()
    measured = _quietly(lambda: generator.closed(iter(visits), course.seconds, course.warm_seconds))
    spent = (process.processor_seconds() - before) * course.seconds / (course.seconds + course.warm_seconds)
    generator.close()
    return _summary(measured) | {"server_us": 1e6 * spent / max(1, measured.turns)}


def at_rate(contestant: Contestant, course: Course, turns: Iterable[Turn], rate: float) -> dict[str, Any]:
    """An open loop: arrivals at random (exponential gaps, the same ones for every server)."""
    due = np.cumsum(np.random.default_rng(0).exponential(1 / rate, int(rate * 2 * course.seconds)))
    generator = contestant.generator(course.port, CONNECTIONS, STREAMS)
    measured = _quietly(lambda: generator.open(turns, due.tolist()))
    generator.close()
    return _summary(measured) | {"rate": rate}


def one_at_a_time(contestant: Contestant, course: Course, turns: Iterable[Turn]) -> dict[str, Any]:
    generator = contestant.generator(course.port, 1, 1)
    measured = _quietly(lambda: generator.closed(iter([turn] for turn in turns), course.seconds, course.warm_seconds))
    generator.close()
    return _summary(measured)


def kinds(steersman: Steersman, course: Course, traffic: Traffic) -> dict[str, float]:
    """Median milliseconds of a request one at a time, full windows: plain, with eight features, with a concept, and with other features on
    the history just asked for. They take turns, so that all have the same conditions."""
    generator = steersman.generator(course.port, 1, 1)
    turns = list(itertools.islice(_kinds(steersman, traffic), int(course.seconds * MOST_PER_SECOND / 4)))
    measured = _quietly(lambda: generator.closed(iter([turn] for turn in turns), 2 * course.seconds))
    generator.close()
    if measured.failed:
        raise Wrong(f"{measured.failed} calls of {steersman.name} failed")
    warmed = measured.latencies[len(KINDS) * SKIPPED :]
    return {kind: 1e3 * statistics.median(warmed[place :: len(KINDS)]) for place, kind in enumerate(KINDS)}


def stateless_visits(contestant: Contestant, course: Course, traffic: Traffic) -> list[Sequence[Turn]]:
    count = int((course.seconds + course.warm_seconds) * MOST_PER_SECOND)
    return [[contestant.turn(request)] for request in itertools.islice(traffic.stateless(), count)]


def sessions(course: Course, traffic: Traffic) -> list[Session]:
    return traffic.sessions(int((course.seconds + course.warm_seconds) * MOST_PER_SECOND / TURNS))


def _kinds(steersman: Steersman, traffic: Traffic) -> Iterator[Turn]:
    histories = traffic.full_window()
    concepts = itertools.cycle(steersman.bundle.concepts["name"].to_pylist())
    while True:
        yield steersman.turn(Request(next(histories), NO_EDITS))
        yield steersman.turn(Request(next(histories), traffic.edits()))
        history = next(histories)
        control = Control(concept=next(concepts), operation=OPERATION_ADD, strength=0.5)
        yield [steersman.recommend([control], history=history)]
        yield steersman.turn(Request(history, traffic.edits()))


def _last(contestant: Contestant, course: Course, turn: Turn) -> bytes:
    """The answer to the last call of a turn."""
    return [contestant.call(course.port, message) for message in turn][-1]


def _compare(name: str, ranker: Ranker, request: Request, rows: Sequence[int], scores: Sequence[float]) -> None:
    wanted_rows, wanted_scores = (found[0] for found in ranker.rank([request]))
    worst = max(np.abs(np.array(scores) - wanted_scores)) if len(scores) == len(wanted_scores) else float("inf")
    # Items whose scores are closer than the tolerance may change places.
    if worst > TOLERANCE or len(set(rows) & set(wanted_rows.tolist())) < len(wanted_rows) - 1:
        raise Wrong(f"{name} answers other items than the graphs do: {rows}, not {wanted_rows.tolist()}")


def _summary(measured: Measured) -> dict[str, Any]:
    """Rates a second, milliseconds, and the generator's microseconds of processor time a turn."""
    if not measured.turns:
        raise Wrong(f"no answer, {measured.failed} calls failed")
    p50, p99 = np.percentile(measured.latencies, [50, 99])
    return {
        "per_second": measured.turns / measured.seconds,
        "p50_ms": 1e3 * float(p50),
        "p99_ms": 1e3 * float(p99),
        "answered": measured.turns,
        "failed": measured.failed,
        "client_us": 1e6 * measured.client_seconds / measured.turns,
    }


def _quietly(run: Callable[[], Measured]) -> Measured:
    """Without the collection of garbage, which would hold up calls."""
    gc.collect()
    gc.disable()
    try:
        return run()
    finally:
        gc.enable()
