"""Two checkouts of Steersman, measured by turns in one run with the same client and traffic.

python -m bench.paired --before CHECKOUT --after CHECKOUT --bundle FOLDER --serve-before="--workers 2" --serve-after="--workers 2"

A checkout is a folder whose .venv/bin/python runs its steersman_service. Both servers are up all the time, each with a store of
its own, and take turns in short rounds, so that both see the same drift of the machine: before and after, then after and before,
and so on. An idle server takes next to nothing from the other. Histories are made of random items of the
bundle, at the lengths of MovieLens-1M; every other request is steered by eight features (bench/peers/traffic.py). Client
and server share the machine: nothing else should run on it.
"""

import argparse
import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.peers import measure
from bench.peers.client import Turn, Visit
from bench.peers.contestant import NotThere, Process
from bench.peers.measure import MOST_PER_SECOND, Course, Wrong
from bench.peers.steersman import Steersman
from bench.peers.traffic import TURNS, Session, Traffic
from bench.quartiles import Quartiles
from steersman_service.bundle.bundle import load_bundle

USERS = 2000
MEDIAN_EVENTS, SPREAD = 96, 1.04
"""Log-normal lengths of histories: mean 165, as in MovieLens-1M."""
FEWEST_EVENTS, MOST_EVENTS = 20, 1000
WARM_SECONDS = 0.7
SHARE = 0.7
"""Of the saturating rate, at which p99 is measured."""
SESSIONS_AT_A_TIME = 256
"""In the open loop: far enough apart that a session's turn is answered before its next one is due."""


class Figure(NamedTuple):
    """One number of a measured server."""

    name: str
    run: str
    """Key in what `measured` returns."""
    field: str
    """Key in the summary of the run."""


FIGURES = (
    Figure("session turns/s", "session", "per_second"),
    Figure("stateless requests/s", "stateless", "per_second"),
    Figure("p99 ms at the rate", "at_rate", "p99_ms"),
    Figure("one at a time, ms", "single", "p50_ms"),
    Figure("server us/session turn", "session", "server_us"),
    Figure("server us/stateless request", "stateless", "server_us"),
)


class Side(NamedTuple):
    """One of the two that are compared."""

    checkout: Path
    flags: Sequence[str]
    """Further ones of `serve`."""


class Calls(NamedTuple):
    """Of one round. Encoded once, and sent to every server."""

    sessions: list[Session]
    """All that have a turn below. The server learns their beginnings before anything of the round is timed."""
    visits: list[Visit]
    """Turns of sessions for the closed loop."""
    at_rate: list[Turn]
    """Turns of other sessions for the open loop."""
    stateless: list[Visit]
    single: list[Turn]
    """Stateless ones that the closed loop does not send."""


Round = dict[str, dict[str, dict[str, Any]]]
"""By side ("before", "after"), run and field."""


def main() -> None:
    arguments = _arguments()
    steersman = Steersman(load_bundle(arguments.bundle, "onnx"), Path())
    sides = {
        "before": Side(arguments.before.absolute(), arguments.serve_before.split()),
        "after": Side(arguments.after.absolute(), arguments.serve_after.split()),
    }
    rounds: list[Round] = []
    rate: float | None = None
    with started(sides, steersman) as servers:
        for number, calls in enumerate(made_calls(steersman, arguments.seconds, arguments.rounds)):
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
            rounds.append(measured(servers, order(number), steersman, calls, arguments.seconds, rate))
            rate = rate or rounds[0]["before"]["at_rate"]["rate"]
            if arguments.json:
                facts = {"bundle": steersman.bundle.version, "seconds": arguments.seconds, "rate": rate}
                commands = {name: {"checkout": str(side.checkout), "serve": side.flags} for name, side in sides.items()}
                report = {**facts, **commands, "figures": _plain(summary(rounds)), "rounds": rounds}
                arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(*table(rounds), sep="\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench.paired", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="checkout")
    parser.add_argument("--after", type=Path, required=True, help="checkout")
    parser.add_argument("--bundle", type=Path, required=True, help="that both serve")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run, after a warm-up; twice that at a rate")
    parser.add_argument("--serve-before", default="", help="options of `serve`, separated by blanks")
    parser.add_argument("--serve-after", default="", help="the same of the other")
    parser.add_argument("--json", type=Path, help="file for every figure of every round")
    return parser.parse_args()


def order(number: int) -> tuple[str, str]:
    """Who is measured first in a round (from 0): alternates."""
    return ("after", "before") if number % 2 else ("before", "after")


def made_calls(steersman: Steersman, seconds: float, rounds: int) -> Iterator[Calls]:
    """For each of so many rounds, enough for runs of so many seconds. No call comes twice."""
    traffic = Traffic(steersman.bundle, _histories(len(steersman.bundle.items_ND)))
    stateless = traffic.stateless()
    closed = int((seconds + WARM_SECONDS) * MOST_PER_SECOND)
    in_closed = closed // TURNS
    count = in_closed + int(2 * seconds * SHARE * MOST_PER_SECOND / TURNS) + SESSIONS_AT_A_TIME
    all_sessions = traffic.sessions(count * rounds)
    for begin in range(0, len(all_sessions), count):
        sessions = all_sessions[begin : begin + count]
        visits = steersman.visits(sessions)
        turns = [steersman.turn(request) for request in itertools.islice(stateless, closed + closed // 2)]
        yield Calls(
            sessions,
            visits[:in_closed],
            list(interleaved(visits[in_closed:])),
            [[turn] for turn in turns[:closed]],
            turns[closed:],
        )


def _histories(items: int) -> list[Any]:
    """Item rows of made-up users."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(MEDIAN_EVENTS), SPREAD, USERS).clip(FEWEST_EVENTS, MOST_EVENTS).astype(int)
    return [rng.integers(0, items, length) for length in lengths]


def interleaved(visits: Sequence[Visit]) -> Iterator[Turn]:
    """The first turn of some visits, then the second of each, and so on; then other visits."""
    for begin in range(0, len(visits), SESSIONS_AT_A_TIME):
        for turns in zip(*visits[begin : begin + SESSIONS_AT_A_TIME], strict=True):
            yield from turns


Servers = Mapping[str, tuple[Process, int]]
"""By side: its process, and its port."""


@contextlib.contextmanager
def started(sides: Mapping[str, Side], steersman: Steersman) -> Iterator[Servers]:
    """Both servers, ready. Raises NotThere."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, side in sides.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            process = stack.enter_context(_started(name, side, steersman, folder))
            process.wait_until(lambda log=folder / "log": _port(log) is not None)  # type: ignore[misc]
            port = _port(folder / "log")
            assert port is not None
            servers[name] = (process, port)
        yield servers


def measured(
    servers: Servers, order: Sequence[str], steersman: Steersman, calls: Calls, seconds: float, rate: float | None
) -> Round:
    """Summaries of all runs of a round. `rate`: session turns/s of the open loop; None: SHARE of what the first of `order` saturates at."""
    found: Round = {name: {} for name in order}
    for name in order:
        steersman.remember(servers[name][1], calls.sessions)
    # Sessions come before stateless requests, which are longer than what caches hold.
    for run in ("session", "at_rate", "stateless", "single"):
        for name in order:
            process, port = servers[name]
            course = Course(seconds, port, WARM_SECONDS)
            if run == "at_rate":
                rate = rate or SHARE * found[order[0]]["session"]["per_second"]
                found[name][run] = measure.at_rate(steersman, course, calls.at_rate, rate)
            elif run == "single":
                found[name][run] = measure.one_at_a_time(steersman, course, calls.single)
            else:
                visits = calls.visits if run == "session" else calls.stateless
                found[name][run] = measure.saturate(steersman, process, course, visits)
    return found


def _started(name: str, side: Side, steersman: Steersman, folder: Path) -> Process:
    python = side.checkout / ".venv/bin/python"
    if not python.is_file():
        raise NotThere(f"{name}: there is no {python}: a checkout needs its own virtual environment")
    # An older checkout has none.
    http = ("--http", "off") if (side.checkout / "service/steersman_service/http").is_dir() else ()
    command = [
        str(python), "-m", "steersman_service", "serve", "--port", "0", "--metrics-port", "0",
        "--data", str(folder / "data"), "--bundle", str(steersman.bundle.folder.absolute()),
        "--log-format", "json", "--log-level", "info", *http, *side.flags,
    ]  # fmt: skip
    return Process(name, command, folder / "log", {}, side.checkout)


def _port(log: Path) -> int | None:
    """Where a server listens, once it is ready."""
    for line in log.read_text(errors="replace").splitlines():
        if '"ready"' in line and (told := json.loads(line)).get("event") == "ready":
            return int(told["address"].rpartition(":")[2])
    return None


def summary(rounds: Sequence[Round]) -> dict[str, dict[str, Quartiles]]:
    """Of each figure: quartiles over rounds of both sides, and of after / before round by round."""
    figures = {}
    for name, run, field in FIGURES:
        before, after = ([found[side][run][field] for found in rounds] for side in ("before", "after"))
        figures[name] = {
            "before": Quartiles.of(before),
            "after": Quartiles.of(after),
            "after/before": Quartiles.of_ratios(after, before),
        }
    return figures


def _plain(figures: dict[str, dict[str, Quartiles]]) -> dict[str, Any]:
    return {name: {of: found._asdict() for of, found in columns.items()} for name, columns in figures.items()}


def table(rounds: Sequence[Round]) -> Iterator[str]:
    """The same for people, with what failed. The client's processor time tells how much of the machine it took."""
    yield f"{f'median of {len(rounds)} rounds (quartiles)':<32}{'before':>30}{'after':>30}{'after/before':>24}"
    for name, columns in summary(rounds).items():
        before, after = (f"{_shown(columns[side], '.4g'):>30}" for side in ("before", "after"))
        yield f"{name:<32}{before}{after}{_shown(columns['after/before'], '.3f'):>24}"
    runs = [(side, run, found) for turns in rounds for side, by_run in turns.items() for run, found in by_run.items()]
    client = [found["client_us"] for _, run, found in runs if run == "session"]
    yield f"the rate: {rounds[0]['before']['at_rate']['rate']:.0f} session turns/s; client: {np.median(client):.0f} us/session turn"
    for side, run, found in runs:
        if found["failed"]:
            yield f"failed: {found['failed']} calls of {side}, {run}, beside {found['answered']} answered"


def _shown(quartiles: Quartiles, digits: str) -> str:
    low, median, high = (format(value, digits) for value in quartiles)
    return f"{median} ({low} to {high})"


if __name__ == "__main__":
    try:
        main()
    except (NotThere, Wrong, ConnectionError) as error:
        raise SystemExit(str(error)) from error
