"""Moments: the lists are those of the recommender at that event, without what the user had seen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from steersman_training.autoencoder.moments import collect_moments
from steersman_training.autoencoder.states import collect_states
from steersman_training.data import load
from steersman_training.data.sequences import Split, Targets, split_leave_one_out
from steersman_training.recommender.model import Recommender, RecommenderConfig, last_position


@pytest.fixture(scope="module")
def split(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Split:
    return split_leave_one_out(load(str(data_dir), cache=tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("hook", [None, 1])
def test_lists_are_those_of_the_history_up_to_the_event(split: Split, hook: int | None) -> None:
    torch.manual_seed(0)
    shape = RecommenderConfig(hidden=16, window_length=30, window_stride=5, hook=hook)
    model = Recommender(shape, split.item_count).requires_grad_(False)
    torch.nn.init.normal_(model.items.weight)
    moments = collect_moments(model, split, [5], count=10**6, seed=0)
    history = split.train_history(5)
    assert moments.items_S.tolist() == history.tolist()
    for event in range(len(history)):
        ids_1T = torch.from_numpy(history[: event + 1])[None]
        length_1 = torch.tensor([event + 1])
        scores_1N = model.score(last_position(model(ids_1T), length_1))
        scores_1N[0, history[: event + 1]] = -torch.inf
        assert moments.lists_SK[event].tolist() == scores_1N.topk(10).indices[0].tolist()
        torch.testing.assert_close(moments.h_SD[event], last_position(model.hidden_states(ids_1T), length_1)[0])


def test_items_seen_in_an_earlier_window_are_not_eligible_either(split: Split) -> None:
    torch.manual_seed(0)
    shape = RecommenderConfig(hidden=16, window_length=4, window_stride=2)
    model = Recommender(shape, split.item_count).requires_grad_(False)
    user = max(range(split.users), key=lambda user: len(split.train_history(user)))
    moments = collect_moments(model, split, [user], count=10**6, seed=0)
    history = split.train_history(user).tolist()
    assert len(history) > 12
    assert sorted(moments.items_S.tolist()) == sorted(history)
    for item, rows in zip(moments.items_S.tolist(), moments.lists_SK.tolist(), strict=True):
        assert not set(rows) & set(history[: history.index(item) + 1])


def test_an_item_met_twice_is_seen_from_the_first_time_on() -> None:
    torch.manual_seed(0)
    nothing = Targets(np.zeros(0, np.int64), np.zeros(0, np.int64))
    history = np.array([3, 1, 4, 1, 5, 3])
    split = Split(history, np.array([0, 6]), np.array([6]), nothing, nothing, item_count=14)
    model = Recommender(RecommenderConfig(hidden=16, window_length=20, window_stride=5), 14).requires_grad_(False)
    moments = collect_moments(model, split, [0], count=10**6, seed=0)
    for event, rows in enumerate(moments.lists_SK.tolist()):
        assert not set(rows) & set(history[: event + 1].tolist())
        assert len(set(rows)) == 10


def test_a_sample_is_part_of_all_states(split: Split) -> None:
    torch.manual_seed(0)
    shape = RecommenderConfig(hidden=16, window_length=20, window_stride=5)
    model = Recommender(shape, split.item_count).requires_grad_(False)
    users = list(range(30))
    every = collect_states(model, split, users)
    whole = collect_moments(model, split, users, count=10**6, seed=0)
    torch.testing.assert_close((whole.h_SD, whole.items_S), tuple(every))
    some = collect_moments(model, split, users, count=50, seed=0)
    assert some.h_SD.shape == (50, 16)
    assert some.lists_SK.shape == (50, 10)
    known = {tuple(row) for row in whole.h_SD.tolist()}
    assert all(tuple(row) in known for row in some.h_SD.tolist())


def test_list_means_count_the_items_of_a_value(split: Split) -> None:
    model = Recommender(RecommenderConfig(hidden=16, window_length=20, window_stride=5), split.item_count)
    moments = collect_moments(model.requires_grad_(False), split, [3, 4], count=20, seed=0)
    member_VN = torch.arange(split.item_count) < torch.tensor([[0], [20], [split.item_count]])
    shares_SV = moments.list_means(member_VN)
    assert shares_SV[:, 0].tolist() == [0.0] * len(shares_SV)
    torch.testing.assert_close(shares_SV[:, 1], (moments.lists_SK < 20).float().mean(1))
    assert shares_SV[:, 2].tolist() == [1.0] * len(shares_SV)
