"""The report of a benchmark: figures from what was measured, as JSON whose names stay, and as a page with one table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

Parts = Mapping[str, Any]
"""contestant -> measurement -> figure."""


class Aim(NamedTuple):
    """What a figure is held against."""

    key: str
    what: str
    must: str
    aim: str


AIMS = (
    Aim("session_x_triton", "session traffic, requests/s against Triton", "5", "10"),
    Aim("stateless_x_triton", "stateless traffic, requests/s against Triton", "2", "3"),
    Aim("p99_x_triton", "p99 at 70% of Triton's saturated rate, against Triton's", "0.5", "0.25"),
    Aim("single_x_triton", "one at a time, small model, latency against Triton's", "0.45", "0.33"),
    Aim("steered_x_plain", "8 feature controls against a plain request", "1.05", "1.02"),
    Aim("concept_x_plain", "one concept solved for the state against a plain request", "1.25", "1.1"),
    Aim("controls_only_x", "a full request against one with other controls only", "5", "10"),
    Aim("server_x_ort", "stateless requests/s against ONNX Runtime alone in a loop", "0.85", "0.95"),
)
HELD = 0.95
"""Share of the arrivals in the time of their run (the wait for the last answers included) below which a rate is not held."""
NAMES = {
    "steersman": "Steersman",
    "triton": "Triton",
    "triton-alone": "Triton, its model without batches",
    "ray": "Ray Serve",
    "mlserver": "MLServer",
    "litserve": "LitServe",
}
NOTES = """
- Every server does the same for a request: lower, edit where there are controls, search, seen items left out, twenty items with scores;
  ONNX Runtime on one thread. Before anything is timed its answers are compared with those of ONNX Runtime in the benchmark's own process.
- Histories are those of real users at their true lengths; half of the requests carry eight feature controls. Stateless requests do not
  repeat: the oldest event that the recommender sees is another one each time, so that no cache is of use. In session traffic each user
  makes ten turns, in each of which an event is appended and items are asked for. Steersman takes the event with the call; for the
  others, which have no sessions, the client sends the whole history.
- The load generator is the same for all and shares the cores with the server; its own processor time a request stands in the table. Nothing
  is pinned. Closed loops have 8 connections with 8 streams; arrivals of the open loop are random, the same for everybody.
- **Triton** is the server of the `nvidia-pytriton` wheel. That has no C++ backend for ONNX: a model in Python calls ONNX Runtime, with
  dynamic batching of 500 us, over KServe's v2 gRPC protocol. Ratios are against this. "Without batches": the same server, whose model
  computes the requests that it is handed one by one and without padding, which is not how it is meant to be used.
- **Ray Serve** (gRPC ingress), **MLServer** (KServe's v2 gRPC) and **LitServe** (HTTP and JSON) batch for up to 500 us, one replica or
  worker unless said otherwise. All peers are given one graph made of the bundle's, with the item table baked in.
- ONNX Runtime alone: the same requests in a loop in batches of similar length, one thread, the fastest batch size; echo: grpc.aio on uvloop
  that answers nothing, called by the same client.
- Requests one at a time, plain, steered, with a concept and with other controls only, take turns; their histories fill the window.
"""


def figures(parts: Parts) -> dict[str, float]:
    """The figures of the benchmark; those of which something was not measured are left out."""
    ours, triton = parts.get("steersman", {}), parts.get("triton", {})
    alone = parts.get("triton-alone", {})
    kinds = ours.get("kinds", {})
    best_ort = max(parts.get("floor", {}).get("ort_large", {}).values(), default=None)
    found = {
        "session_x_triton": _ratio(ours, triton, "session", "per_second"),
        "stateless_x_triton": _ratio(ours, triton, "stateless", "per_second"),
        "p99_x_triton": _ratio(ours, triton, "at_rate", "p99_ms"),
        "single_x_triton": _ratio(ours, triton, "single", "p50_ms"),
        "steered_x_plain": _over(kinds.get("steered"), kinds.get("plain")),
        "concept_x_plain": _over(kinds.get("concept"), kinds.get("plain")),
        "controls_only_x": _over(kinds.get("steered"), kinds.get("controls_only")),
        "server_x_ort": _over(ours.get("stateless", {}).get("per_second"), best_ort),
        "session_x_triton_alone": _ratio(ours, alone, "session", "per_second"),
        "stateless_x_triton_alone": _ratio(ours, alone, "stateless", "per_second"),
        "single_x_triton_alone": _ratio(ours, alone, "single", "p50_ms"),
    }
    return {key: value for key, value in found.items() if value is not None}


def write_report(parts: Parts, facts: Mapping[str, Any], folder: Path) -> None:
    """Writes bench.json and bench.md, and prints the page."""
    folder.mkdir(parents=True, exist_ok=True)
    found = figures(parts)
    document = found | {"facts": facts, "measured": parts}
    (folder / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    page = "\n".join(_page(parts, facts, found))
    (folder / "bench.md").write_text(page)
    print(page)


def _ratio(one: Parts, other: Parts, measurement: str, field: str) -> float | None:
    return _over(*(side.get(measurement, {}).get(field) for side in (one, other)))


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _page(parts: Parts, facts: Mapping[str, Any], found: Mapping[str, float]) -> list[str]:
    shapes, histories = facts["shapes"], facts["histories"]
    return [
        "# Steersman beside other servers",
        "",
        f'    make bench BENCH="--data {facts["data"]} --seconds {facts["seconds"]:g} --copies {facts["copies"]}"',
        "",
        f"{facts['machine']}; ONNX Runtime {facts['onnxruntime']}; histories of {facts['data']}: {histories['users']:,} users, events:"
        f" median {histories['median']}, mean {histories['mean']:.0f}; large model {shapes['large']}; small model {shapes['small']};"
        f" runs of {facts['seconds']:g} s; workers, replicas or instances of each server: {facts['copies']}."
        + (f" `steersman serve {facts['serve']}`." if facts["serve"] else ""),
        "",
        "| figure | what it is | must reach | aim | measured |",
        "| --- | --- | --- | --- | --- |",
        *(f"| `{aim.key}` | {aim.what} | {aim.must} | {aim.aim} | {_number(found.get(aim.key))} |" for aim in AIMS),
        "",
        *_servers(parts),
        "",
        *_floor(parts),
        NOTES,
    ]


def _servers(parts: Parts) -> list[str]:
    rows = [
        "| server | session requests/s | x | stateless requests/s | x | p99 at the same rate, ms | x | small, one at a time, ms | x"
        " | us of a core a stateless request: server, client |",
        "| " + "--- | " * 10,
    ]
    for name, label in NAMES.items():
        part = parts.get(name)
        if part is None:
            continue
        if "why_not" in part:
            rows.append(f"| {label} | not measured: {part['why_not'].splitlines()[0][:200]} |" + " |" * 8)
            continue
        cells = [label]
        for measurement, field in (
            ("session", "per_second"), ("stateless", "per_second"), ("at_rate", "p99_ms"), ("single", "p50_ms"),
        ):  # fmt: skip
            if _behind(part.get(measurement, {})):
                cells += ["does not hold the rate", ""]
                continue
            cells.append(_number(part.get(measurement, {}).get(field)))
            cells.append(_number(_ratio(part, parts.get("triton", {}), measurement, field)))
        stateless = part["stateless"]
        cells.append(f"{stateless['server_us']:,.0f}, {stateless['client_us']:,.0f}")
        rows.append(f"| {' | '.join(cells)} |")
    return [*rows, "", "x: against Triton."]


def _floor(parts: Parts) -> list[str]:
    floor = parts.get("floor", {})
    if "ort_large" not in floor:
        return []
    rates = {name: floor[f"ort_{name}"] for name in ("large", "small")}
    rows = [
        f"| ONNX Runtime alone, {name} model, batches of {size} | {rate:,.0f} |"
        for name, by_size in rates.items()
        for size, rate in by_size.items()
    ]
    return [
        "| floor | requests/s |",
        "| --- | --- |",
        *rows,
        f"| grpc.aio echo ({floor['echo_client_us']:.0f} us of the client a call) | {floor['echo_per_second']:,.0f} |",
    ]


def _behind(measured: Mapping[str, float]) -> bool:
    """Whether the arrivals of an open loop were more than the server answers."""
    return measured.get("per_second", 0.0) < HELD * measured.get("rate", 0.0)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
