"""Scoring and top 20 of a million items, one query at a time, on one thread: the indexes against the plain exact scan.

python -m bench.million --bundle BUNDLE --histories INTERACTIONS --work FOLDER --out docs/results/million

The catalogue is the bundle's, extended (catalogues.py), and beside it one of independent Gaussian numbers. An index is built
for each as the export does, measured there on the queries of half of the users, and here on those of the others. What is
built stays in FOLDER: `--prepare` does no more than that.

Times are processor times of the one thread that computes: other work on the machine takes its memory's speed, not its time.
Plain is the faster of two ways to score every item: the bundle's graph `search`, and numpy's product and partition. Each way
answers queries one after the other, as a server would. Filters leave random items, or those that were made of items of one genre.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from google.protobuf import json_format

from bench.million import report
from bench.million.catalogues import Made, blends, gaussian
from bench.million.queries import read_queries
from steersman.v1.bundle_pb2 import Manifest
from steersman_service.bundle.bundle import Array, Bundle, load_bundle
from steersman_service.bundle.items import Items
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index.exact import GraphIndex, Index, Terms
from steersman_service.engine.index.large import LargeIndex
from steersman_training.bundle.bundle import name_files
from steersman_training.bundle.index import write_lists, write_scan

K = 20
SHARES = (1.0, 0.1, 0.001)


class Place(NamedTuple):
    """A catalogue with its index, where it lies."""

    name: str
    bundle: Bundle
    """Of items, index, and the trained bundle's graph `search`."""
    origins_N: Array
    build_seconds: dict[str, float]


def main() -> None:
    """Prints a line for each catalogue, filter and kind of query; writes OUT.json and OUT.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--histories", type=Path, required=True, help="interactions, as `steersman train` takes them")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="without a suffix")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=400, help="half of them decide how far an index looks")
    parser.add_argument("--measured", type=int, default=200, help="of the others, those whose queries are answered")
    parser.add_argument("--timed", type=int, default=30, help="of these, those that the plain ways answer")
    parser.add_argument("--prepare", action="store_true", help="build, and measure nothing")
    arguments = parser.parse_args()
    trained = load_bundle(arguments.bundle, "onnx")
    queries = read_queries(trained, arguments.histories, arguments.users, np.random.default_rng(1))
    half, rows = arguments.users // 2, []
    for name, make in (("blends", blends), ("gaussian", gaussian)):
        asked = queries if name == "blends" else _noise(queries)
        deciding, others = (
            {kind: of[part] for kind, of in asked.items()}
            for part in (slice(half), slice(half, half + arguments.measured))
        )
        place = _placed(name, partial(make, trained, arguments.items), deciding, trained, arguments.work)
        if not arguments.prepare:
            for row in _measured(place, others, trained, arguments.timed):
                rows.append(row)
                print(report.line(row), flush=True)
    if not arguments.prepare:
        report.write(arguments.out, rows, _about(arguments, trained))


def _noise(queries: Mapping[str, Array]) -> dict[str, Array]:
    """Of the same lengths, in all directions."""
    rng = np.random.default_rng(2)
    noise = {kind: rng.standard_normal(of.shape, np.float32) for kind, of in queries.items()}
    return {
        kind: noise[kind] * (np.linalg.norm(of, axis=1) / np.linalg.norm(noise[kind], axis=1))[:, None]
        for kind, of in queries.items()
    }


def _placed(
    name: str, make: Callable[[np.random.Generator], Made], queries: Mapping[str, Array], trained: Bundle, work: Path
) -> Place:
    """Built in `work`, if it is not there yet."""
    folder = work / name
    if not (folder / "index.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = make(np.random.default_rng(0))
        for file, array in (
            ("items", made.catalogue.items_ND),
            ("biases", made.catalogue.biases_N),
            ("origins", made.origins_N),
        ):
            np.save(folder / f"{file}.npy", array)
        began = time.perf_counter()
        write_scan(made.catalogue, folder)
        scanned = time.perf_counter()
        index = json_format.MessageToDict(
            write_lists(made.catalogue, queries, folder), preserving_proto_field_name=True
        )
        seconds = {"scan": scanned - began, "lists": time.perf_counter() - scanned}
        (folder / "index.json").write_text(json.dumps({"index": index, "seconds": seconds}))
    known = json.loads((folder / "index.json").read_text())
    items_ND, biases_N, origins_N = (np.load(folder / f"{file}.npy") for file in ("items", "biases", "origins"))
    manifest = Manifest()
    json_format.ParseDict({"index": known["index"]}, manifest)
    name_files(manifest, folder)
    golden = {"search": {"query_BD": next(iter(queries.values()))[:8]}}
    bundle = dataclasses.replace(
        trained, folder=folder, manifest=manifest, items_ND=items_ND, biases_N=biases_N, golden=golden
    )
    return Place(name, bundle, origins_N, known["seconds"])


class Measured(NamedTuple):
    """One catalogue, one filter, one kind of query. Times are medians of processor time, in milliseconds."""

    catalogue: str
    filter: str
    left: float
    """Share of the items that the filter leaves."""
    kind: str
    graph_ms: float
    numpy_ms: float
    exact_ms: float
    approximate_ms: float
    exact_x: float
    """Of the faster plain way's time by the index's."""
    approximate_x: float
    recall: float
    """Share of the best 20 that the approximate index finds, over all queries."""


def _measured(place: Place, queries: Mapping[str, Array], trained: Bundle, timed: int) -> Iterator[Measured]:
    bundle = place.bundle
    backend = OnnxBackend(trained, 1)
    graph = GraphIndex(Graphs(bundle, backend))
    exact, approximate = (LargeIndex(bundle, backend, 1, approximate=way) for way in (False, True))
    for name, mask_N in _filters(place, trained):
        left = 1.0 if mask_N is None else float(mask_N.mean())
        for kind, queries_QD in queries.items():
            few_QD = queries_QD[:timed]
            by_graph, by_numpy, by_scan, by_lists = (
                _answered(partial(search, mask_N=mask_N), of)
                for search, of in (
                    (partial(_found, graph, backend), few_QD),
                    (partial(_plain, bundle), few_QD),
                    (partial(_found, exact, backend), queries_QD),
                    (partial(_found, approximate, backend), queries_QD),
                )
            )
            # An exact index is exact, but for what rounding makes equal.
            assert _shared(by_graph.rows, by_scan.rows[:timed]) > 0.99
            plain_ms = min(by_graph.ms, by_numpy.ms)
            yield Measured(
                place.name, name, left, kind, by_graph.ms, by_numpy.ms, by_scan.ms, by_lists.ms,
                plain_ms / by_scan.ms, plain_ms / by_lists.ms, _shared(by_scan.rows, by_lists.rows),
            )  # fmt: skip


class Answered(NamedTuple):
    """Queries in one way, one after the other."""

    ms: float
    """Median of processor times."""
    rows: list[Array]


def _answered(search: Callable[[Array], Array], queries_QD: Array) -> Answered:
    seconds, rows = [], []
    for query_D in queries_QD:
        began = time.thread_time()
        rows.append(search(query_D))
        seconds.append(time.thread_time() - began)
    return Answered(1e3 * statistics.median(seconds), rows)


def _shared(wanted: Sequence[Array], found: Sequence[Array]) -> float:
    """Share of the wanted rows that were found."""
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)]))


def _filters(place: Place, trained: Bundle) -> Iterator[tuple[str, Array | None]]:
    rng, size = np.random.default_rng(3), len(place.bundle.items_ND)
    for share in SHARES:
        yield f"{share:.1%} at random", None if share == 1 else rng.permutation(size) < share * size
    if place.name == "blends":
        genres = Items(trained.items).attributes["genres"]
        for genre in ("Horror", "Western"):
            yield f"genre {genre}", genres.having([genre], len(trained.items_ND))[place.origins_N]


def _found(index: Index, backend: OnnxBackend, query_D: Array, mask_N: Array | None) -> Array:
    found = index.search(backend.put(query_D[None]), [Terms(mask_N)], [K])
    # The tensor and its memory go with `found`.
    rows_K: Array = backend.get(found.rows_BK)[0].copy()
    return rows_K


def _plain(bundle: Bundle, query_D: Array, mask_N: Array | None) -> Array:
    scores_N = bundle.items_ND @ query_D
    scores_N += bundle.biases_N
    if mask_N is not None:
        np.copyto(scores_N, -np.inf, where=~mask_N)
    best_K = np.argpartition(scores_N, -K)[-K:]
    rows: Array = best_K[np.lexsort((best_K, -scores_N[best_K]))]
    return rows


def _about(arguments: argparse.Namespace, trained: Bundle) -> dict[str, object]:
    shape = trained.manifest.shape
    work = {name: json.loads((arguments.work / name / "index.json").read_text()) for name in ("blends", "gaussian")}
    sizes = {
        name: {path.name: path.stat().st_size for path in sorted((arguments.work / name).iterdir())} for name in work
    }
    return {
        "items": arguments.items,
        "hidden": shape.hidden,
        "users": min(arguments.measured, arguments.users - arguments.users // 2),
        "timed": arguments.timed,
        "machine": platform.machine(),
        "processor": _processor(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "indexes": work,
        "bytes": sizes,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
