"""The benchmark of aims: what it hides, and what it counts."""

import numpy as np
import polars as pl
import pytest

from bench.aims import carry, data
from bench.aims.data import HIDDEN
from bench.aims.queries import Curve, summary
from bench.aims.users import Users, lists


def test_hidden_genres_and_last_events_are_gone() -> None:
    items = pl.DataFrame({"item_id": ["1", "2"], "genres": [["Drama", "Horror"], ["War"]]})
    events = pl.DataFrame({"item_id": [str(n) for n in range(100)], "timestamp": [str(n) for n in range(100, 0, -1)]})
    tables = data.Tables(events, items)
    assert data.without_genres(tables).items["genres"].to_list() == [["Drama"], []]
    assert data.without_last_events(tables).interactions["item_id"].to_list() == [str(n) for n in range(99, 4, -1)]


def test_a_list_without_items_of_the_history() -> None:
    scores_BN = np.tile(np.arange(20.0), (2, 1))
    scores_BN[0, 19] = -np.inf
    users = Users([], scores_BN, np.array([18, 18]))
    member_N = np.arange(20) >= 18
    assert lists(users, 0.0, member_N).share == pytest.approx(0.15)
    assert lists(users, 0.0, member_N).ndcg == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert lists(users, -100.0 * member_N.astype(np.float64), member_N) == (0.0, 0.0)


def test_figures_are_means_over_genres() -> None:
    rises = {"items": 0.1, "words": 0.2, "concept": 0.4}
    found = [Curve(genre, kind, (rise,) * 3) for genre in HIDDEN for kind, rise in rises.items()]
    found.append(Curve(HIDDEN[0], "items", (0.3,) * 3))
    figures = summary(found)
    assert figures["items"]["rise_at_0.05"] == pytest.approx((0.2 + 5 * 0.1) / 6)
    assert figures["items"]["queries"] == 7
    carried = [carry.Carried(1, 0.9, 0.2, 0.1), carry.Carried(2, 0.0, 0.3, 0.0), carry.Carried(3, 0.7, 0.1, 0.05)]
    assert carry.summary(carried)["carried"] == pytest.approx(2 / 3)
    assert carry.summary(carried)["correlation_of_effects"] == pytest.approx(1)
