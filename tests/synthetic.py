"""Made-up data with structure: users who like one genre, and items of one or two genres."""

from pathlib import Path

import numpy as np
import polars as pl

GENRES = ["Comedy", "Crime", "Horror", "War"]
ITEMS = 60
USERS = 160


def write(folder: Path, *, events_per_user: int = 28, seed: int = 0) -> Path:
    """interactions.parquet and items.parquet, as a user would bring them."""
    rng = np.random.default_rng(seed)
    genre = np.arange(ITEMS) % len(GENRES)
    popularity = rng.exponential(size=ITEMS) + 0.2
    users, items = [], []
    for user in range(USERS):
        weights = popularity * np.where(genre == rng.integers(len(GENRES)), 8.0, 1.0)
        count = int(rng.integers(4, events_per_user + 1))
        items.append(rng.choice(ITEMS, count, replace=False, p=weights / weights.sum()))
        users.append(np.full(count, user))
    position = np.concatenate([np.arange(len(part)) for part in items])
    frame = pl.DataFrame(
        {"user_id": np.concatenate(users), "item_id": np.concatenate(items) + 100, "position": position}
    )
    frame.write_parquet(folder / "interactions.parquet")
    second = rng.integers(len(GENRES), size=ITEMS)
    genres = [
        sorted({GENRES[a], GENRES[b]} if row % 5 == 0 else {GENRES[a]})
        for row, (a, b) in enumerate(zip(genre, second, strict=True))
    ]
    items_table = {
        "item_id": np.arange(ITEMS) + 100,
        "title": [*(f"Film {row}" for row in range(ITEMS - 1)), f"Film {ITEMS - 1}, The"],  # as MovieLens writes them
        "genres": genres,
    }
    pl.DataFrame({**items_table, "year": 1950.0 + np.arange(ITEMS)}).write_parquet(folder / "items.parquet")
    return folder
