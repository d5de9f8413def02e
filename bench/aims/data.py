"""MovieLens-100K as the bundles of this benchmark see it: without some genres, and without its last events."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from steersman_training.data.movielens import open_tables

HIDDEN = ("Animation", "Horror", "Musical", "Sci-Fi", "War", "Western")
"""Genres that the bundle without them has never seen, in no item and under no name."""
KEPT = 0.95
"""Share of the events that the earlier of two trainings sees: the first ones."""


class Tables(NamedTuple):
    interactions: pl.DataFrame
    items: pl.DataFrame


def whole(cache: Path) -> Tables:
    tables = open_tables("movielens-100k", cache)
    assert tables is not None
    assert tables.items is not None
    return Tables(tables.interactions.collect(), tables.items.collect())


def without_genres(tables: Tables) -> Tables:
    genres = pl.col("genres").list.set_difference(list(HIDDEN))
    return tables._replace(items=tables.items.with_columns(genres))


def without_last_events(tables: Tables) -> Tables:
    by_time = tables.interactions.sort(pl.col("timestamp").cast(pl.Int64), maintain_order=True)
    return tables._replace(interactions=by_time.head(int(KEPT * by_time.height)))


def write(tables: Tables, folder: Path) -> Path:
    """A folder that `steersman train --data` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    tables.interactions.write_parquet(folder / "interactions.parquet")
    tables.items.write_parquet(folder / "items.parquet")
    return folder
