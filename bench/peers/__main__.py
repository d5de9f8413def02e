"""Steersman beside what a user would run instead, one after the other in one run, with the same graphs, histories and client.

make bench                                  # MovieLens-100K
make bench BENCH="--data FOLDER_OF_ML_1M"

Peers are those that `python -m bench.peers.install` has installed; others are said to be missing. Each contestant's figures are
kept in a file of its own under --work, so that `--only triton,steersman` measures these anew and the report is of all of them.
"""

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bench.peers import floor, measure
from bench.peers.bundles import NAMES, trained
from bench.peers.client import grpc_generator
from bench.peers.contestant import Contestant, NotThere, Process
from bench.peers.graphs import write_graphs
from bench.peers.litserve import LitServe
from bench.peers.measure import Course, Wrong
from bench.peers.mlserver import MlServer
from bench.peers.ray_serve import RayServe
from bench.peers.report import write_report
from bench.peers.served.ranker import Ranker
from bench.peers.steersman import Steersman
from bench.peers.traffic import Traffic, user_histories
from bench.peers.triton import Triton
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_training.data import Dataset, load

# Triton comes first: others are measured at a share of its rate.
CONTESTANTS = ("floor", "triton", "triton-alone", "steersman", "ray", "mlserver", "litserve")
SHARE_OF_TRITON = 0.7


class Size(NamedTuple):
    """One of the two sizes of the model."""

    bundle: Bundle
    graphs: Path
    histories: list[Any]

    @property
    def traffic(self) -> Traffic:
        """Anew, so that every server is asked the same."""
        return Traffic(self.bundle, self.histories)

    @property
    def ranker(self) -> Ranker:
        return Ranker(self.graphs)


def main() -> None:
    arguments = _arguments()
    dataset = load(arguments.data, cache=arguments.cache)
    sizes = {name: _size(name, arguments, dataset) for name in NAMES}
    for name in filter(None, arguments.only.split(",")):
        print(f"{name} ...", flush=True)
        try:
            found = _measured(name, arguments, sizes)
        except (NotThere, Wrong, ConnectionError) as error:
            found = {"why_not": str(error)}
            print(f"{name}: {error}")
        part = {"of": _of(arguments, sizes), "at": time.time(), "figures": found}
        _part(arguments.work, name).write_text(json.dumps(part, indent=1))
    write_report(_parts(arguments, sizes), _facts(arguments, dataset, sizes), arguments.out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="movielens-100k", help="of histories and bundles, as `steersman train` takes it"
    )
    parser.add_argument("--cache", type=Path, default=Path("data/cache"))
    parser.add_argument("--bundle", type=Path, help="D=128, T=200; trained for an epoch if not given")
    parser.add_argument("--small-bundle", type=Path, help="D=64, T=50; the same")
    parser.add_argument("--peers", type=Path, default=Path("data/peers"), help="where they are installed")
    parser.add_argument("--work", type=Path, default=Path("data/bench"))
    parser.add_argument("--out", type=Path, default=Path("data/bench"), help="folder of bench.json and bench.md")
    parser.add_argument(
        "--only", default=",".join(CONTESTANTS), help="contestants, separated by commas; none: the report alone"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--port", type=int, default=50151, help="and the two after it")
    parser.add_argument(
        "--copies", type=int, default=1, help="workers, replicas or instances of each server, one thread each"
    )
    parser.add_argument("--serve", default="", help="further options of `steersman serve`, separated by blanks")
    return parser.parse_args()


def _size(name: str, arguments: argparse.Namespace, dataset: Dataset) -> Size:
    given = arguments.bundle if name == "large" else arguments.small_bundle
    bundle = load_bundle(given or trained(dataset, name, arguments.work / "bundles"), "onnx")
    graphs: Path = arguments.work / "graphs" / name
    write_graphs(bundle, graphs)
    return Size(bundle, graphs, user_histories(dataset.events, dataset.items["item_id"].to_list(), bundle))


def _measured(name: str, arguments: argparse.Namespace, sizes: dict[str, Size]) -> dict[str, Any]:
    course = Course(arguments.seconds, arguments.port)
    if name == "floor":
        return _floor(arguments.work, course, sizes)
    large, small = (_contestant(name, arguments, sizes[size]) for size in NAMES)
    with _started(large, course) as process:
        found = _large(large, process, course, sizes["large"], _triton_rate(arguments.work))
    with _started(small, course):
        traffic = sizes["small"].traffic
        measure.check(small, course, traffic, sizes["small"].ranker)
        turns = [visit[0] for visit in measure.stateless_visits(small, course, traffic)]
        found["single"] = measure.one_at_a_time(small, course, turns)
    return found


def _large(
    contestant: Contestant, process: Process, course: Course, size: Size, triton_rate: float | None
) -> dict[str, Any]:
    """Sessions come before stateless requests, which are longer than what caches hold."""
    traffic, ranker = size.traffic, size.ranker
    measure.check(contestant, course, traffic, ranker)
    sessions = measure.sessions(course, traffic)
    contestant.remember(course.port, sessions)
    measure.check_sessions(contestant, course, sessions[:2], ranker)
    found: dict[str, Any] = {}
    found["session"] = measure.saturate(contestant, process, course, contestant.visits(sessions[2:]))
    visits = measure.stateless_visits(contestant, course, traffic)
    found["stateless"] = measure.saturate(contestant, process, course, visits)
    rate = found["stateless"]["per_second"] if contestant.name == "triton" else triton_rate
    if rate:
        turns = [visit[0] for visit in visits]
        found["at_rate"] = measure.at_rate(contestant, course, turns, SHARE_OF_TRITON * rate)
    if isinstance(contestant, Steersman):
        found["kinds"] = measure.kinds(contestant, course, traffic)
    return found


def _floor(work: Path, course: Course, sizes: dict[str, Size]) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"ort_{name}": floor.ort_requests_per_second(size.ranker, size.traffic.stateless(), course.seconds)
        for name, size in sizes.items()
    }
    with floor.echo(course.port, work / "echo") as process:
        process.wait_until(lambda: "ready" in (work / "echo" / "log").read_text())
        generator = grpc_generator(course.port, measure.CONNECTIONS, measure.STREAMS)
        measured = generator.closed(itertools.repeat([floor.echo_turn()]), course.seconds / 2, 1.0)
    return found | {
        "echo_per_second": measured.turns / measured.seconds,
        "echo_client_us": 1e6 * measured.client_seconds / measured.turns,
    }


def _contestant(name: str, arguments: argparse.Namespace, size: Size) -> Contestant:
    work: Path = arguments.work / f"{name}-{size.graphs.name}"
    if name == "steersman":
        return Steersman(size.bundle, work, arguments.copies, arguments.serve.split())
    kinds: dict[str, Callable[..., Any]] = {
        "triton": Triton, "triton-alone": Triton, "ray": RayServe, "mlserver": MlServer, "litserve": LitServe,
    }  # fmt: skip
    python = arguments.peers / name.removesuffix("-alone") / "bin" / "python"
    peer: Contestant = kinds[name](python.absolute(), size.graphs.absolute(), work.absolute(), arguments.copies)
    return replace(peer, name=name, alone=True) if isinstance(peer, Triton) and name == "triton-alone" else peer


def _started(contestant: Contestant, course: Course) -> Process:
    process = contestant.start(course.port)
    try:
        process.wait_until(lambda: contestant.ready(course.port))
    except BaseException:
        process.__exit__(None, None, None)
        raise
    return process


def _part(work: Path, name: str) -> Path:
    return work / f"{name}.json"


def _of(arguments: argparse.Namespace, sizes: dict[str, Size]) -> dict[str, Any]:
    """What has to be the same of all that stands in one table."""
    return {name: size.bundle.version for name, size in sizes.items()} | {"copies": arguments.copies}


def _parts(arguments: argparse.Namespace, sizes: dict[str, Size]) -> dict[str, Any]:
    """Figures of all contestants that were measured alike."""
    files = {name: _part(arguments.work, name) for name in CONTESTANTS}
    read = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    return {name: part["figures"] for name, part in read.items() if part["of"] == _of(arguments, sizes)}


def _triton_rate(work: Path) -> float | None:
    part = _part(work, "triton")
    figures = json.loads(part.read_text())["figures"] if part.is_file() else {}
    return figures["stateless"]["per_second"] if "stateless" in figures else None


def _facts(arguments: argparse.Namespace, dataset: Dataset, sizes: dict[str, Size]) -> dict[str, Any]:
    lengths = sorted(len(history) for history in sizes["large"].histories)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "onnxruntime": version("onnxruntime"),
        "data": dataset.name,
        "histories": {"users": len(lengths), "mean": sum(lengths) / len(lengths), "median": lengths[len(lengths) // 2]},
        "shapes": {
            name: f"D={size.bundle.manifest.shape.hidden}, T={size.bundle.manifest.window.length},"
            f" N={size.bundle.manifest.shape.items}"
            for name, size in sizes.items()
        },
        "seconds": arguments.seconds,
        "copies": arguments.copies,
        "serve": arguments.serve,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
