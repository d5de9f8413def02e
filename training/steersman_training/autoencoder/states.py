"""Hidden states at the hook, collected from a trained recommender. Dimensions: S states, B windows, T time, D hidden."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from steersman_training.data.sequences import Split, pad
from steersman_training.recommender.model import Recommender

MOST_STATES = 1_000_000
"""About so many are enough for an autoencoder; more take memory: activations are as many times that as there are features."""


class States(NamedTuple):
    """A state for every training event of some users: that of the recommender after reading the event."""

    h_SD: Tensor
    items_S: Tensor  # the item just read

    def sample(self, count: int, seed: int) -> "States":
        """At most `count` of them."""
        rows = torch.randperm(len(self.h_SD), generator=torch.Generator().manual_seed(seed))[:count]
        return States(self.h_SD[rows.to(self.h_SD.device)], self.items_S[rows.to(self.h_SD.device)])


def some_users(split: Split, users: list[int], seed: int, events: int = MOST_STATES) -> list[int]:
    """Users drawn at random whose training histories have about so many events together; all if they have fewer."""
    order = np.random.default_rng(seed).permutation(np.array(users, np.int64))
    before = np.cumsum(split.train_ends_U[order]) - split.train_ends_U[order]
    if before[-1] < events:
        return users
    return sorted(order[before < events].tolist())


@torch.no_grad()
def collect_states(model: Recommender, split: Split, users: list[int], batch_size: int = 64) -> States:
    """States of all training events of `users`, in consecutive windows."""
    model.eval()
    device, length = model.biases.device, model.config.window_length
    histories = [split.train_history(user) for user in users]
    windows = [history[at : at + length] for history in histories for at in range(0, len(history), length)]
    windows.sort(key=len)  # windows of about the same length share a batch
    states, items = [], []
    for begin in range(0, len(windows), batch_size):
        ids_BT, lengths_B = (torch.from_numpy(part).to(device) for part in pad(windows[begin : begin + batch_size]))
        real_BT = torch.arange(ids_BT.shape[1], device=device) < lengths_B[:, None]
        states.append(model.hidden_states(ids_BT)[:, 1:][real_BT])
        items.append(ids_BT[real_BT])
    return States(torch.cat(states), torch.cat(items))
