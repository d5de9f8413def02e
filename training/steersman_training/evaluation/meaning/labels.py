"""What the catalogue says of discovered features: how many have a clear label, can be steered, or contradict their label; calibration."""

from typing import Any

import polars as pl

from steersman_training.catalogue.labels import NEVER_ACTIVE, UNCLEAR, Labels

LISTED = 0.005
"""Least density of a feature that people are shown."""
QUARTILES = (0.25, 0.5, 0.75)


def catalogue_figures(features: pl.DataFrame, concepts: pl.DataFrame, labels: Labels) -> dict[str, Any]:
    """Shares of the discovered features, counts, and quartiles of what strength 1 adds to the share of a label or concept."""
    found = features.filter(pl.col("kind") == "discovered")
    clear = ~pl.col("label").is_in([UNCLEAR, NEVER_ACTIVE])
    described = found.filter(clear)
    contradicting = sum(
        _contradicts(labels, feature, items) for feature, items in described.select("feature", "top_items").iter_rows()
    )
    return {
        "labelled": _share(found, clear),
        "labelled_listed": _share(found.filter(pl.col("density") >= LISTED), clear),
        "steerable": _share(found, pl.col("steerable")),
        "contradicting": contradicting,
        "contradicting_of": described.height,
        "concept_rise_quartiles": _rises(concepts),
        "feature_rise_quartiles": _rises(found.filter(pl.col("steerable"))),
    }


def _contradicts(labels: Labels, feature: int, top_items: list[int]) -> bool:
    """Whether the label covers less than half of the items that the feature is shown by."""
    covered: list[bool] = labels.predicted_FN[feature, top_items].tolist()
    return sum(covered) < len(top_items) / 2


def _share(features: pl.DataFrame, which: pl.Expr) -> float:
    return features.filter(which).height / max(features.height, 1)


def _rises(rows: pl.DataFrame) -> list[float]:
    """Quartiles of the share after less the share before; empty where there are no rows."""
    rise = (rows["share_after"] - rows["share_before"]).cast(pl.Float64).drop_nulls()
    return [float(rise.quantile(level, "linear") or 0.0) for level in QUARTILES] if len(rise) else []
