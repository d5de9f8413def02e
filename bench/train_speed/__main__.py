"""Training events per second of Steersman, RecTools' SASRec and pmixer's SASRec.pytorch, by turns in the same run, on a CPU.

make bench-train DATASET=... PEERS_PYTHON=... PMIXER=...

The peers are not installed with Steersman. Give them a virtual environment of their own, and pmixer a checkout
(torch first, in a line of its own: on most machines plain pip would bring a CUDA build of several GB; there, add
`--index-url https://download.pytorch.org/whl/cpu` to that line):

    python3.11 -m venv peers
    peers/bin/pip install torch==2.13.0
    peers/bin/pip install "rectools[torch]==0.19.0"
    git clone https://github.com/pmixer/SASRec.pytorch pmixer

Each trains in a process of its own and stands still (SIGSTOP) while another has its turn: A B C A B C ... A first round
warms up and is left out. An event counts when it is a target of the loss; padding does not. The time is that of the whole
training loop: batches made, forward, backward, optimiser. Evaluation is left out.

The same for all: training events (all but each user's last two), D, blocks, heads, events seen at most, probability of
dropout, threads, float32 (--fit '{"precision": "auto"}' lets Steersman choose), machine. RecTools and pmixer also share
the batch size, 128 users, which is their default.
Not the same, because each is what its authors ship:
- Batches. Steersman's hold windows of about one length, with little padding, and an epoch has every training event as a
  target once. The peers pad each user to --length, and have but the last --length of a longer history.
- Loss. Steersman: that of FitConfig (--fit changes it). RecTools: cross-entropy over all items, computed for padding too.
  pmixer: binary cross-entropy of the target and one negative, which is far less work, and says less.
- Blocks. Steersman's are those of recommender.py. The peers' feed-forward layer is D wide inside, and both drop
  attention weights.
- Steps. The peers' are Adam's. Steersman's are those of fit.py, which also clips gradients and averages weights.
- Processes. pmixer makes batches in three more processes, beside the threads counted here.
Events per second say nothing of how many events it takes to learn something.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.quartiles import Quartiles
from bench.train_speed.contestant import Contestant, Turn
from bench.train_speed.steersman_child import open_split
from bench.train_speed.turns import Sizes
from steersman_training.data.sequences import IntArray, Split

OURS = "steersman"
Rounds = Sequence[Mapping[str, Turn]]


def main() -> None:
    """Prints events per second of each, and Steersman's ratio to each peer, round by round."""
    arguments = _arguments()
    split = open_split(arguments.data, arguments.cache)
    print(epoch_line(split.train_ends_U, arguments.length))
    facts: dict[str, Any] = {}
    rounds: list[dict[str, Turn]] = []
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, _contestants(arguments, split, Path(folder)) as contestants:
        facts = {contestant.name: contestant.facts for contestant in contestants}
        for number in range(arguments.rounds + 1):
            turns = {contestant.name: contestant.turn(arguments.seconds) for contestant in contestants}
            shown = ", ".join(f"{name} {turn.events_per_second:,.0f}" for name, turn in turns.items())
            print(f"round {number}{'' if number else ' (left out)'}: {shown} events/s", flush=True)
            rounds += [turns] if number else []
    for line in table(rounds):
        print(line)
    settings = {key: value for key, value in vars(arguments).items() if not isinstance(value, Path | None)}
    machine = {"processor": _processor(), "cores": os.cpu_count(), "load_average_before": load_average}
    result = {**figures(rounds), "settings": settings, "machine": machine, "facts": facts}
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.train_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="as `steersman train --data`")
    parser.add_argument("--cache", type=Path, default=Path("data/cache"), help="where data is fetched into")
    parser.add_argument("--hidden", type=int, default=128, help="D")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--length", type=int, default=200, help="events that the model sees at most")
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--fit", type=json.loads, default={}, metavar="JSON", help="other fields of FitConfig")
    parser.add_argument("--batch", type=int, default=128, help="users in a batch of the peers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a turn; it ends with the step under way")
    parser.add_argument("--peers-python", type=Path, help="python that has RecTools. Not given: no peers")
    parser.add_argument("--pmixer", type=Path, help="checkout of pmixer/SASRec.pytorch. Not given: without it")
    parser.add_argument("--json", type=Path, help="file to write figures into")
    arguments = parser.parse_args()
    if arguments.pmixer and not arguments.peers_python:
        parser.error("--pmixer needs --peers-python")
    arguments.fit = {"precision": "float32", **arguments.fit}
    return arguments


@contextlib.contextmanager
def _contestants(arguments: argparse.Namespace, split: Split, folder: Path) -> Iterator[list[Contestant]]:
    """All that are to be compared, about to train, Steersman first."""
    sizes = json.dumps({field.name: getattr(arguments, field.name) for field in dataclasses.fields(Sizes)})
    trained, whole = folder / "trained.txt", folder / "data" / "events.txt"
    whole.parent.mkdir()
    write_events(split, split.train_ends_U, trained)
    write_events(split, np.diff(split.offsets_U), whole)  # pmixer's own code leaves out each user's last two
    commands = {OURS: [sys.executable, sizes, json.dumps(arguments.fit), arguments.data, arguments.cache]}
    if arguments.peers_python:
        commands["rectools"] = [arguments.peers_python, sizes, arguments.batch, trained]
    if arguments.pmixer:
        commands["pmixer"] = [arguments.peers_python, sizes, arguments.batch, arguments.pmixer.resolve(), folder]
    with contextlib.ExitStack() as stack:
        contestants = []
        for name, (python, *rest) in commands.items():
            command = [str(python), "-m", f"bench.train_speed.{name}_child", *map(str, rest)]
            started = Contestant(name, command, arguments.threads, folder / f"{name}.log")
            contestants.append(stack.enter_context(started))
        yield contestants


def write_events(split: Split, ends_U: IntArray, path: Path) -> None:
    """One line an event, user and item, both numbered from 1; each user's first events, in order."""
    histories = [split.history(user, int(end)) for user, end in enumerate(ends_U)]
    users = np.repeat(np.arange(len(histories)) + 1, ends_U)
    frame = pl.DataFrame({"user": users, "item": np.concatenate(histories) + 1})
    frame.write_csv(path, separator=" ", include_header=False)


def epoch_line(train_ends_U: IntArray, length: int) -> str:
    """What an epoch trains on, with Steersman and with the peers, who need an event before a target."""
    ours, theirs = int(train_ends_U.sum()), int((train_ends_U - 1).clip(0, length).sum())
    return f"targets in an epoch: {OURS} {ours:,}, peers {theirs:,}"


def figures(rounds: Rounds) -> dict[str, Any]:
    """Figures by name: `train_speed_<peer>` is the median over rounds of Steersman's events/s over the peer's."""
    speeds = {name: Quartiles.of(_speeds(rounds, name)) for name in rounds[0]}
    ratios = {name: _ratios(rounds, name) for name in rounds[0] if name != OURS}
    return {
        **{f"train_speed_{name}": ratio.median for name, ratio in ratios.items()},
        "ratios": {name: ratio._asdict() for name, ratio in ratios.items()},
        "events_per_second": {name: speed._asdict() for name, speed in speeds.items()},
        "rounds": [{name: turn._asdict() for name, turn in turns.items()} for turns in rounds],
    }


def table(rounds: Rounds) -> Iterator[str]:
    """The same for people. Cores that are fewer than the threads say that other work was going on: measure again."""
    head = f"median of {len(rounds)} rounds (quartiles)"
    yield f"{head:<32}{'events/s':>26}{'events/step':>13}{'cores':>7}  steersman / it"
    for name in rounds[0]:
        speed, turns = Quartiles.of(_speeds(rounds, name)), [turns[name] for turns in rounds]
        size = sum(turn.events for turn in turns) / sum(turn.steps for turn in turns)
        cores = sum(turn.processor_seconds for turn in turns) / sum(turn.seconds for turn in turns)
        shown = f"{speed.median:,.0f} ({speed.low:,.0f} to {speed.high:,.0f})"
        ratio = "" if name == OURS else "  {1:.2f} ({0:.2f} to {2:.2f})".format(*_ratios(rounds, name))
        yield f"{name:<32}{shown:>26}{size:>13,.0f}{cores:>7.2f}{ratio}"


def _speeds(rounds: Rounds, name: str) -> list[float]:
    return [turns[name].events_per_second for turns in rounds]


def _ratios(rounds: Rounds, name: str) -> Quartiles:
    return Quartiles.of_ratios(_speeds(rounds, OURS), _speeds(rounds, name))


def _processor() -> str:
    """Linux tells its model; elsewhere the architecture must do."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
