"""Moments: events at which the recommender is looked at, each with the state after it, the item just read, and the list to come.

Dimensions: S states (one a moment), B windows, T time, D hidden, N items, K items of a list, V attribute values.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from steersman_training.data.sequences import IntArray, Split, pad
from steersman_training.recommender.model import Recommender
from steersman_training.recommender.ranking import TOP

SCORED_TOGETHER = 1024
"""States whose scores of the whole catalogue are held in memory at a time."""


class Moments(NamedTuple):
    """Training events of some users. No control is active."""

    h_SD: Tensor  # the state at the hook after the event
    items_S: Tensor  # the item just read
    lists_SK: Tensor  # the ten best items from that state; items already seen are not eligible

    def list_means(self, amounts_VN: Tensor) -> Tensor:
        """Mean over each list of amounts of its items: of membership (bool) the share of the list that has a value. (S, V)"""
        amounts_NV = amounts_VN.T.float().contiguous()
        return torch.cat([amounts_NV[rows_SK].mean(1) for rows_SK in self.lists_SK.split(4096)])


class _Window(NamedTuple):
    user: int
    begin: int
    ids: IntArray


@torch.no_grad()
def collect_moments(
    model: Recommender, split: Split, users: list[int], count: int, seed: int, batch_size: int = 64
) -> Moments:
    """At most `count` of the training events of `users`, drawn without regard to whose they are.

    Histories are cut into windows laid one after the other, as for the states that an autoencoder learns from. One pass over a window
    gives the lists at all its events, attention being causal.
    """
    model.eval()
    config, device = model.config, model.biases.device
    windows = sorted(_windows(split, users, config.window_length), key=lambda window: len(window.ids))
    events = sum(len(window.ids) for window in windows)
    chosen = torch.zeros(events, dtype=torch.bool)
    chosen[torch.randperm(events, generator=torch.Generator().manual_seed(seed))[:count]] = True
    parts = []
    for at in range(0, len(windows), batch_size):
        batch = windows[at : at + batch_size]
        ids_BT, lengths_B = (torch.from_numpy(part) for part in pad([window.ids for window in batch]))
        real_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
        wanted_BT = torch.zeros_like(real_BT).masked_scatter(real_BT, chosen[: int(lengths_B.sum())])
        chosen = chosen[int(lengths_B.sum()) :]
        x_BPD = model.hidden_states(ids_BT.to(device))
        query_BPD = model.run_blocks(x_BPD, config.hook_block, config.blocks)
        rows_S, times_S = wanted_BT.nonzero(as_tuple=True)
        seen_from_BN = np.stack([_seen_from(split, window.user) for window in batch])
        begins_B = torch.tensor([window.begin for window in batch])
        lists_SK = _lists(
            model,
            query_BPD[:, 1:][wanted_BT.to(device)],
            torch.from_numpy(seen_from_BN).to(device),
            rows_S.to(device),
            (begins_B[rows_S] + times_S).to(device),
        )
        parts.append(Moments(x_BPD[:, 1:][wanted_BT.to(device)], ids_BT[wanted_BT].to(device), lists_SK))
    return Moments(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _windows(split: Split, users: list[int], length: int) -> list[_Window]:
    return [
        _Window(user, begin, history[begin : begin + length])
        for user in users
        for history in [split.train_history(user)]
        for begin in range(0, len(history), length)
    ]


def _seen_from(split: Split, user: int) -> IntArray:
    """Index of the event at which the user met each item first; beyond all of them where never. (N,)"""
    history = split.train_history(user)
    seen_from_N = np.full(split.item_count, len(history), dtype=np.int64)
    times = np.arange(len(history))
    seen_from_N[history[::-1]] = times[::-1]  # of equal indices the last assignment stays: the earliest event
    return seen_from_N


def _lists(model: Recommender, query_SD: Tensor, seen_from_BN: Tensor, rows_S: Tensor, times_S: Tensor) -> Tensor:
    """The ten best unseen items of each state, (S, K)."""
    top = min(TOP, seen_from_BN.shape[1])
    lists = [torch.zeros(0, top, dtype=torch.int64, device=query_SD.device)]
    for begin in range(0, len(query_SD), SCORED_TOGETHER):
        part = slice(begin, begin + SCORED_TOGETHER)
        seen_SN = seen_from_BN[rows_S[part]] <= times_S[part, None]
        lists.append(model.score(query_SD[part]).masked_fill(seen_SN, -torch.inf).topk(top, dim=1).indices)
    return torch.cat(lists)
