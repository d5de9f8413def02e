"""Hidden states at the hook, collected from a trained recommender. Dimensions: S states, D hidden."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from steersman_training.recommender import Recommender
from steersman_training.sequences import Split, pad


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
    """Users to learn features from, and users to measure them on."""
    order = np.random.default_rng(seed).permutation(split.users)
    held_out = max(1, round(share * split.users))
    return sorted(order[held_out:].tolist()), sorted(order[:held_out].tolist())


@torch.no_grad()
def collect_states(model: Recommender, split: Split, users: list[int], batch_size: int = 64) -> States:
    """States of all training events of `users`, in windows laid one after the other."""
    model.eval()
    device, length = model.biases.device, model.config.window_length
    windows = [
        history[at : at + length]
        for u in users
        for history in [split.train_history(u)]
        for at in range(0, len(history), length)
    ]
    windows.sort(key=len)
    states, items = [], []
    for begin in range(0, len(windows), batch_size):
        ids_BT, lengths_B = (torch.from_numpy(part).to(device) for part in pad(windows[begin : begin + batch_size]))
        h_BTD = model.hidden_states(ids_BT)[:, 1:]
        real_BT = torch.arange(ids_BT.shape[1], device=device) < lengths_B[:, None]
        states.append(h_BTD[real_BT])
        items.append(ids_BT[real_BT])
    return States(torch.cat(states), torch.cat(items))
