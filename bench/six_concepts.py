"""A request with six concepts beside a plain one: one caller, by turns, at a server of its own.

    python -m bench.six_concepts --bundle FOLDER --json FILE

Histories are made up, and each is new to the server, so that no cache helps: the two of a pair differ in their oldest event alone. All six
concepts have strength 1. Prints medians, and the ratio of medians round by round with its quartiles;
`steersman evaluate --again --merge FILE` adds the figures to a report.
"""

import argparse
import json
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np

from bench.peers.client import Message
from bench.peers.contestant import CALL_SECONDS, NotThere
from bench.peers.graphs import K
from bench.peers.steersman import RECOMMEND, Steersman
from bench.quartiles import Quartiles
from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman_service.bundle.bundle import Bundle, load_bundle

CONCEPTS = 6
FEWEST_EVENTS = 2


class Pair(NamedTuple):
    """Two requests that differ in their controls."""

    plain: Message
    six: Message


class Answer(NamedTuple):
    ms: float
    size_bytes: int


class Round(NamedTuple):
    """Medians of one round."""

    plain: Answer
    six: Answer


def main() -> None:
    """Prints the figures, and writes them."""
    parser = argparse.ArgumentParser(
        "python -m bench.six_concepts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=50, help="of requests, in a round")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    rounds = measured(load_bundle(arguments.bundle, "onnx"), arguments.rounds, arguments.pairs)
    print(*table(rounds), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(summary(rounds), indent=1) + "\n")


def measured(bundle: Bundle, rounds: int, pairs: int) -> list[Round]:
    """All rounds at one server. A first round warms up and is left out."""
    with tempfile.TemporaryDirectory() as folder:
        steersman = Steersman(bundle, Path(folder, "steersman"))
        waiting, port = made_pairs(steersman), free_port()
        with steersman.start(port) as process:
            process.wait_until(lambda: steersman.ready(port))
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call: Any = channel.unary_unary(RECOMMEND)  # requests and answers stay bytes
                return [_round(call, [next(waiting) for _ in range(pairs)]) for _ in range(rounds + 1)][1:]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def made_pairs(steersman: Steersman, seed: int = 0) -> Iterator[Pair]:
    """Pairs without end, of histories of any length in the window and any six concepts."""
    bundle, rng = steersman.bundle, np.random.default_rng(seed)
    names = [str(name) for name in bundle.concepts["name"].to_pylist()]
    if len(names) < CONCEPTS:
        raise NotThere(f"{bundle.folder}: has {len(names)} concepts, not {CONCEPTS}")
    items = len(bundle.items_ND)
    while True:
        history = rng.integers(items, size=int(rng.integers(FEWEST_EVENTS, bundle.manifest.window.length)))
        other = np.concatenate([(history[:1] + 1) % items, history[1:]])
        controls = [
            Control(concept=name, operation=OPERATION_ADD, strength=1.0)
            for name in rng.choice(names, CONCEPTS, replace=False).tolist()
        ]
        yield Pair(steersman.recommend([], history=history), steersman.recommend(controls, history=other))


def _round(call: Any, pairs: Sequence[Pair]) -> Round:
    """Plain, six, plain, six, ..."""
    answers = [(_asked(call, pair.plain), _asked(call, pair.six)) for pair in pairs]
    return Round(*(Answer(*np.median(column, axis=0).tolist()) for column in zip(*answers, strict=True)))


def _asked(call: Any, message: Message) -> Answer:
    began = time.perf_counter()
    answer: bytes = call(message.body, timeout=CALL_SECONDS)
    return Answer(1e3 * (time.perf_counter() - began), len(answer))


def _ratio(rounds: Sequence[Round]) -> Quartiles:
    return Quartiles.of_ratios([each.six.ms for each in rounds], [each.plain.ms for each in rounds])


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Numbers at the top level are what a report takes."""
    plain, six = (Answer(*np.median([each[at] for each in rounds], axis=0).tolist()) for at in range(2))
    return {
        "six_concepts_x_plain": _ratio(rounds).median,
        "six_concepts_bytes": round(six.size_bytes),
        "plain_bytes": round(plain.size_bytes),
        "six_concepts_ms": six.ms,
        "plain_ms": plain.ms,
        "quartiles": {"six_concepts_x_plain": _ratio(rounds)._asdict()},
        "rounds": [{name: answer._asdict() for name, answer in each._asdict().items()} for each in rounds],
    }


def table(rounds: Sequence[Round]) -> Iterator[str]:
    """The same for people."""
    found, ratio = summary(rounds), _ratio(rounds)
    yield f"median of {len(rounds)} rounds; {K} items asked for, the history new to the server"
    for name in ("plain", "six_concepts"):
        yield f"{name:<14}{found[f'{name}_ms']:8.3f} ms {found[f'{name}_bytes']:8.0f} bytes"
    yield f"six concepts / plain: {ratio.median:.3f} (quartiles {ratio.low:.3f} to {ratio.high:.3f})"


if __name__ == "__main__":
    try:
        main()
    except NotThere as error:
        raise SystemExit(str(error)) from error
