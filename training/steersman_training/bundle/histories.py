"""histories.parquet: what some validation users have taken up, without names, to try controls on."""

import numpy as np
import polars as pl

from steersman_training.data.sequences import Split

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {"items": pl.List(pl.Int32), "events_before": pl.Int64}


def sample_histories(split: Split, window_length: int, most: int, seed: int) -> pl.DataFrame:
    """The last `window_length` events before the validation event of at most `most` users, in random order.

    Users without an event before it are left out.
    """
    begun = np.flatnonzero(split.valid.positions)
    rows = []
    for place in np.random.default_rng(seed).permutation(begun)[:most]:
        events = split.history(int(split.valid.users[place]), int(split.valid.positions[place]))
        latest = events[-window_length:]
        rows.append({"items": latest.tolist(), "events_before": len(events) - len(latest)})
    return pl.DataFrame(rows, schema=SCHEMA)
