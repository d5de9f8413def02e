"""Whether data is enough to train on, found before training."""

import numpy as np

from steersman_training.autoencoder.states import hold_out_users
from steersman_training.data.sequences import Split
from steersman_training.data.tables import DataError

FEWEST_ITEMS = 2
"""One item leaves nothing to choose."""
FEWEST_USERS = 2
"""One to learn features from, one to measure them on."""


def check_enough(split: Split, held_out_users: float, seed: int) -> None:
    """Raises DataError saying what there is and how much is needed."""
    if split.item_count < FEWEST_ITEMS:
        raise DataError(f"data: {split.item_count} item is left; at least {FEWEST_ITEMS} are needed")
    for name, targets in (("validate", split.valid), ("test", split.test)):
        if not len(targets.users):
            raise DataError(
                f"split: no event is held out to {name} on; at least 1 is needed: users with 3 events or more "
                "(leave-one-out), or events in the last tenths of the time (global-time)"
            )
    users = int((split.train_ends_U > 0).sum())
    if users < FEWEST_USERS:
        raise DataError(f"split: {users} users have events to train on; at least {FEWEST_USERS} are needed")
    learners, _ = hold_out_users(split, held_out_users, seed)
    met = len(np.unique(np.concatenate([split.train_history(user) for user in learners])))
    if met < FEWEST_ITEMS:
        raise DataError(
            f"split: the events to train on are of {met} item; at least {FEWEST_ITEMS} are needed. What is held out "
            "for tests (of each user the last two events, or all after a moment) is not trained on: bring more events"
        )
