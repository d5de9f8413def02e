"""Figure 5: feature controls of a bundle, carried to one that was trained with another seed and 5% more data.

Dimensions: N items, F features.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.aims.data import Tables
from bench.aims.users import Mask, Users, effects_FN, lists, users_of
from steersman.v1.control_pb2 import CONTROL_SOURCE_REQUEST, OPERATION_ADD, Control, FeatureRef
from steersman_service.api.release import Release
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions
from steersman_service.settings import load_settings


class Carried(NamedTuple):
    """A steerable feature, at strength 1: how far it raises the share of its label's value."""

    feature: int
    confidence: float
    before: float
    """In its own bundle."""
    after: float
    """What it came down to, in the newer one."""


def beside_each_other(older: Path, newer: Path, folder: Path) -> tuple[Path, Path]:
    """Copies of two bundles in one folder, as retraining leaves them."""
    return tuple(Path(shutil.copytree(each, folder / each.resolve().name)) for each in (older, newer))  # type: ignore[return-value]


def carried_controls(older: Path, newer: Path, tables: Tables, users: int) -> list[Carried]:
    with tempfile.TemporaryDirectory() as parent:
        old_folder, new_folder = beside_each_other(older, newer, Path(parent))
        engines = [load_engine(folder, EngineOptions(threads=1)) for folder in (old_folder, new_folder)]
        old, new = (engine.bundle for engine in engines)
        audiences = [users_of(engine, tables, users) for engine in engines]
        return list(_each(old, new, *audiences))


def _each(old: Bundle, new: Bundle, old_users: Users, new_users: Users) -> Iterator[Carried]:
    release = Release.of(new, load_settings(metrics="off"))
    old_FN, new_FN = effects_FN(old), effects_FN(new)
    for row in old.features.to_pylist():
        if not row["steerable"]:
            continue
        old_N, new_N = _members(row, old, new)
        pushed_N = (row.get("unit_up") or 1.0) * old_FN[row["feature"]]
        raised = lists(old_users, pushed_N, old_N).share - lists(old_users, 0.0, old_N).share
        reference = FeatureRef(id=row["feature"], bundle_version=old.version)
        control = Control(feature=reference, operation=OPERATION_ADD, strength=1.0)
        (parsed,) = release.controls.parse("controls", CONTROL_SOURCE_REQUEST, [control]).controls
        added_N = sum((edit.strength * new_FN[edit.feature_id] for edit in parsed.applied.edits), np.zeros(len(new_N)))
        after = lists(new_users, added_N, new_N).share - lists(new_users, 0.0, new_N).share
        yield Carried(row["feature"], parsed.applied.carried_confidence, raised, after)


def _members(row: dict[str, Any], old: Bundle, new: Bundle) -> tuple[Mask, Mask]:
    """The items that have the value of a feature's label, by the older bundle's table, in both."""
    items = Items(old.items)
    attribute, value = row["attribute"], row["value"]
    if row["description"] and ":" in row["description"][0] and row["description"][0].split(":")[0] in items.attributes:
        attribute, value = row["description"][0].split(":", 1)
    column = items.attributes[attribute]
    if not value:
        numbers_N = old.items[attribute].to_numpy()
        old_N = numbers_N > np.nanmedian(numbers_N)
    else:
        old_N = column.having([value], len(items))
    members = {items.ids[place] for place in np.flatnonzero(old_N)}
    return old_N, np.array([item_id in members for item_id in Items(new.items).ids])


def summary(found: list[Carried]) -> dict[str, Any]:
    kept = [one for one in found if one.confidence > 0]
    before, after = np.array([(one.before, one.after) for one in kept]).T if kept else (np.zeros(0), np.zeros(0))
    return {
        "steerable": len(found),
        "carried": len(kept) / len(found),
        "median_confidence": float(np.median([one.confidence for one in kept])),
        "correlation_of_effects": float(np.corrcoef(before, after)[0, 1]),
        "mean_rise_before": float(before.mean()),
        "mean_rise_after": float(after.mean()),
        "same_direction": float(np.mean(np.sign(before) == np.sign(after))),
    }
