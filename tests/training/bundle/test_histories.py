"""Histories that a bundle keeps: of validation users, and without what is held out."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steersman_training.bundle.histories import sample_histories
from steersman_training.data.sequences import Split, Targets

MOST = 40
WINDOW = 20  # of the tiny bundle


def written(bundle: Path) -> pl.DataFrame:
    return pl.read_parquet(bundle / "histories.parquet")


def test_a_bundle_has_the_last_events_of_its_users_before_those_held_out(bundle_dir: Path, data_dir: Path) -> None:
    ids = pl.read_parquet(bundle_dir / "items.parquet")["item_id"].to_list()
    events = pl.read_parquet(data_dir / "interactions.parquet").sort("user_id", "position")
    wanted = []
    for user in events.partition_by("user_id"):
        before = [str(item) for item in user["item_id"].to_list()[:-2]]
        wanted.append((before[-WINDOW:], max(0, len(before) - WINDOW)))
    found = [([ids[row] for row in rows], events_before) for rows, events_before in written(bundle_dir).iter_rows()]
    assert len(found) == len(wanted) <= 200
    assert sorted(found) == sorted(wanted)
    assert found != wanted, "their order would tell who they are"
    assert any(events_before for _, events_before in found)
    assert written(bundle_dir).schema == {"items": pl.List(pl.Int32), "events_before": pl.Int64}


def split_of(lengths: list[int], valid_positions: list[int]) -> Split:
    """Users with so many events, of items 0, 1, 2, ... each; those with a position have an event to validate on there."""
    items = np.concatenate([np.arange(length) for length in lengths])
    positions = np.array(valid_positions)
    users = np.flatnonzero(positions >= 0)
    valid = Targets(users, positions[users])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Split(items, offsets, np.maximum(positions, 0), valid, Targets(users, positions[users] + 1), 100)


def test_users_without_an_event_before_or_without_validation_are_left_out() -> None:
    table = sample_histories(split_of([5, 9, 4, 3], [3, 7, 0, -1]), window_length=4, most=9, seed=0)
    assert sorted(table.iter_rows()) == [([0, 1, 2], 0), ([3, 4, 5, 6], 3)]
    none = sample_histories(split_of([4], [0]), window_length=4, most=9, seed=0)
    assert (none.height, none.schema) == (0, table.schema)


@pytest.mark.parametrize("users", [MOST, MOST + 50])
def test_a_seed_chooses_as_many_as_a_bundle_holds(users: int) -> None:
    split = split_of([10] * users, [1 + user % 7 for user in range(users)])
    first, again, other = (sample_histories(split, 20, MOST, seed) for seed in (0, 0, 1))
    assert first.height == MOST
    assert first.equals(again)
    assert not first.equals(other)


def test_a_bundle_can_do_without() -> None:
    assert sample_histories(split_of([5, 9], [3, 7]), window_length=4, most=0, seed=0).height == 0
