"""Hidden states at the hook, collected from a trained recommender.

Dimensions: S states, B windows, T time, P = T + 1 positions, D hidden, N items.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from steersman_training.data.sequences import Split, pad
from steersman_training.recommender.model import Recommender

METRIC_USERS = 500
"""Users from whose events the metric of the predictions is taken: a D x D matrix needs no more."""


class States(NamedTuple):
    """A state for every training event of some users: what the recommender holds when it has just read that event."""

    h_SD: Tensor
    items_S: Tensor  # the item just read

    def sample(self, count: int, seed: int) -> "States":
        """At most `count` of them."""
        rows = torch.randperm(len(self.h_SD), generator=torch.Generator().manual_seed(seed))[:count].to(
            self.h_SD.device
        )
        return States(self.h_SD[rows], self.items_S[rows])


def hold_out_users(split: Split, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Users to learn features from, and users to measure them on; both of those that have training events."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(split.train_ends_U))
    held_out = max(1, round(share * len(order)))
    return sorted(order[held_out:].tolist()), sorted(order[:held_out].tolist())


def at_hook(model: Recommender, hook: int | None) -> Recommender:
    """The same recommender, weights shared, whose states are those after `hook` blocks (None: after the last)."""
    moved = copy.copy(model)
    moved.config = replace(model.config, hook=hook)
    return moved


@torch.no_grad()
def collect_states(
    model: Recommender, split: Split, users: list[int], batch_size: int = 64, hook: int | None = None
) -> States:
    """States of all training events of `users`, in windows laid one after the other. `hook`: instead of the model's own."""
    model = (at_hook(model, hook) if hook is not None else model).eval()
    states, items = [], []
    for ids_BT, real_BT in _windows(model, split, users, batch_size):
        states.append(model.hidden_states(ids_BT)[:, 1:][real_BT])
        items.append(ids_BT[real_BT])
    return States(torch.cat(states), torch.cat(items))


def prediction_metric(model: Recommender, split: Split, users: list[int], batch_size: int = 64) -> Tensor:
    """What a small change of the state at the hook does to the predicted next items, as a quadratic form (D, D).

    The Fisher information of their distribution, mean over the training events of some of `users`: half of d' M d is the Kullback-Leibler
    divergence that a change d of the state costs, to second order (Amari 1998). One item is drawn from each prediction, and the gradient
    of its log-probability is taken at the hook, through the frozen blocks above it.
    """
    model.eval()
    metric_DD, count = torch.zeros(model.config.hidden, model.config.hidden, device=model.biases.device), 0
    generator = torch.Generator(model.biases.device).manual_seed(0)
    some = np.random.default_rng(0).permutation(users)[:METRIC_USERS].tolist()
    for ids_BT, real_BT in _windows(model, split, some, batch_size):
        with torch.no_grad():
            x_BPD = model.hidden_states(ids_BT)
        x_BPD.requires_grad_()
        query_BPD = model.run_blocks(x_BPD, model.config.hook_block, model.config.blocks)
        log_SN = model.score(query_BPD[:, 1:][real_BT]).log_softmax(-1)
        drawn_S1 = torch.multinomial(log_SN.detach().exp(), 1, generator=generator)
        (slope_BPD,) = torch.autograd.grad(log_SN.gather(1, drawn_S1).sum(), x_BPD)
        slope_SD = slope_BPD[:, 1:][real_BT]
        metric_DD += slope_SD.T @ slope_SD
        count += len(slope_SD)
    return metric_DD / max(1, count)


def _windows(model: Recommender, split: Split, users: list[int], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of item ids (B, T) of about the same length, and which of them are events (B, T)."""
    device, length = model.biases.device, model.config.window_length
    windows = [
        history[at : at + length]
        for u in users
        for history in [split.train_history(u)]
        for at in range(0, len(history), length)
    ]
    windows.sort(key=len)
    for begin in range(0, len(windows), batch_size):
        ids_BT, lengths_B = (torch.from_numpy(part).to(device) for part in pad(windows[begin : begin + batch_size]))
        yield ids_BT, torch.arange(ids_BT.shape[1], device=device) < lengths_B[:, None]
