"""Cold start on made-up users, whose taste is a genre."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench import cold_start
from bench.cold_start import EVENTS, QUESTIONS, User, answers, first_events, measured, popular
from steersman_client import load
from steersman_training.data import load as load_data


def test_interests_are_of_later_events_that_are_not_asked_for(data_dir: Path, bundle_dir: Path, tmp_path: Path) -> None:
    data = load_data(str(data_dir), cache=tmp_path)
    asked = np.arange(data.report.users)
    genres = dict(zip(data.items["item_id"], data.items["genres"], strict=True))
    with load(bundle_dir) as model:
        users = [*cold_start._users(data, asked, model)]
        assert users
        for user in users:
            later = user.item_ids[cold_start.LATER :]
            picked_from = [item_id for item_id in later if item_id not in user.later]
            assert len(user.later) == len(later) // 2
            counts = {genre: sum(genre in genres[each] for each in picked_from) for genre in user.interests["frequent"]}
            assert [*counts.values()] == sorted(counts.values(), reverse=True)
        figures = measured(model, users[:8], popular(data, asked))
    assert {figure.question for figure in figures} == {*QUESTIONS}
    assert {len(figure.rates) for figure in figures} == {len(EVENTS)}
    for figure in figures:
        assert figure.low <= figure.mean <= figure.high
        assert figure.mean == pytest.approx(np.mean(figure.rates))


def test_what_orders_first_events() -> None:
    events = pl.DataFrame({"user": [0, 0, 0, 1], "item": [5, 6, 7, 5], "time": [60, 60, 300, 100]})
    together, commonest, span = first_events(events)
    assert together == "of the first 6 events 50% carry the same time as the one before"
    assert commonest == "the 10 commonest first items are 100% of all first events"
    assert span == "half of the users did all within 2 minutes"


def test_hits_are_of_the_next_event() -> None:
    user = User([f"{place}" for place in range(20)], {}, {"18", "19"})
    found = answers([user], lambda user, events, strength: ["3", "18", "19"], 0.0)
    assert found[0].tolist() == [[float(events == 3), 0.2] for events in EVENTS]
