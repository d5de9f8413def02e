"""The benchmark of training speed: what it counts and how it sums up. Speeds themselves are not tested."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.train_speed.__main__ import epoch_line, figures, table, write_events
from bench.train_speed.contestant import Contestant, Turn
from bench.train_speed.steersman_child import open_split
from steersman_training.data.sequences import Split

SIZES = {"hidden": 16, "blocks": 1, "heads": 2, "length": 20, "dropout": 0.1}


@pytest.fixture(scope="module")
def split(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Split:
    return open_split(str(data_dir), tmp_path_factory.mktemp("cache"))


def test_a_ratio_is_of_the_same_round() -> None:
    rounds = [
        {"steersman": Turn(ours, 1, 2.0, 4.0), "rectools": Turn(theirs, 1, 1.0, 2.0)}
        for ours, theirs in ((8, 2), (60, 6), (2, 1))
    ]
    told = figures(rounds)
    assert told["train_speed_rectools"] == 2.0  # the median of 2, 5 and 1; of the medians it would be 4 / 2
    assert told["ratios"]["rectools"] == {"low": 1.5, "median": 2.0, "high": 3.5}
    assert told["events_per_second"]["steersman"]["median"] == 4.0
    assert any("2.00 (1.50 to 3.50)" in line for line in table(rounds))


def test_peers_need_an_event_before_a_target_and_forget_old_ones() -> None:
    assert epoch_line(np.array([0, 1, 5, 30]), 20) == "targets in an epoch: steersman 36, peers 24"


def test_peers_get_the_training_events_in_order(split: Split, tmp_path: Path) -> None:
    write_events(split, split.train_ends_U, tmp_path / "events.txt")
    rows = np.loadtxt(tmp_path / "events.txt", dtype=np.int64)
    assert len(rows) == split.train_ends_U.sum()
    for user in range(split.users):
        np.testing.assert_array_equal(rows[rows[:, 0] == user + 1, 1] - 1, split.train_history(user))


def test_turns_count_every_training_event_of_an_epoch_once(data_dir: Path, split: Split, tmp_path: Path) -> None:
    fields = {"events_per_batch": 400, "precision": "float32"}
    arguments = [json.dumps(SIZES), json.dumps(fields), str(data_dir), str(tmp_path)]
    command = [sys.executable, "-m", "bench.train_speed.steersman_child", *arguments]
    with Contestant("steersman", command, 1, tmp_path / "log") as contestant:
        assert contestant.facts["threads"] == 1
        turns = [contestant.turn(0.0) for _ in range(20)]
    assert {turn.steps for turn in turns} == {1}
    assert int(split.train_ends_U.sum()) in itertools.accumulate(turn.events for turn in turns)


def test_one_that_fails_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise ValueError('no such thing')"]
    with pytest.raises(SystemExit, match=r"peer has ended with status 1:[^$]*no such thing"):
        Contestant("peer", command, 1, tmp_path / "log")
