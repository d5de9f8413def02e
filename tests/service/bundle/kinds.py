"""Bundles whose catalogue says of what kind features are and how strong concepts are, as format 1.4 does, and that say neither."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.service.bundle.test_bundle import resign

# Feature -> what differs from a discovered feature without a clear meaning, of density 0.1.
SPECIAL: dict[int, dict[str, Any]] = {
    3: {"label": "Horror", "description": ["genres:Horror"], "steerable": True, "rise": 0.4, "density": 0.02},
    5: {"label": "War", "description": ["genres:War"], "rise": 0.9, "density": 0.5},
    6: {"label": "1950s", "description": ["decade:1950s"], "density": 0.2},
    7: {"density": 0.9},
    8: {"label": "Crime", "description": ["genres:Crime"], "steerable": True, "rise": 0.6, "density": 0.0049},
    9: {"density": 0.005},
    10: {"label": "Comedy", "description": ["genres:Comedy"], "steerable": True, "rise": 0.2, "density": 0.9},
    11: {"density": 0.0},
    60: {"kind": "anchored", "label": "Horror", "steerable": True, "rise": 0.3, "density": 0.3},
    61: {"kind": "anchored", "label": "War", "rise": 0.8, "density": 0.2},
    62: {"kind": "of a later format", "density": 0.05},
}
STEERABLE, RARE_STEERABLE, DEAD = [3, 60, 10], 8, 11
ANCHORED, OF_ANOTHER_KIND = {60, 61}, 62
# 6 and 61 have the same density.
BEST, LAST = [*STEERABLE, 5, 6, 61, 7], [OF_ANOTHER_KIND, 9]
STRENGTHS = {
    "genres:Horror": (2.6, 3.5),
    "genres:War": (2.0, 2.0),
    "genres:Crime": (1.9, 2.4),
    "genres:Comedy": (0.7, 0.9),
}


def listed(features: int, *, rare: bool = False) -> list[int]:
    """Ids of a bundle of so many features, in the order in which they are listed."""
    plain = [feature for feature in range(features) if feature not in SPECIAL]
    common = [*BEST, *plain, *LAST]
    return [RARE_STEERABLE, *common, DEAD] if rare else common


def with_kinds(bundle: Path, folder: Path) -> Path:
    """A copy of `bundle`."""
    copy = Path(shutil.copytree(bundle, folder / "bundle"))
    features = pq.read_table(copy / "features.parquet")
    rows = [SPECIAL.get(feature, {}) for feature in range(features.num_rows)]
    columns = {
        "kind": pa.array([row.get("kind", "discovered") for row in rows]),
        "label": pa.array([row.get("label", "no clear meaning") for row in rows]),
        "description": pa.array([row.get("description", []) for row in rows], pa.list_(pa.string())),
        "confidence": pa.array([0.9 if "label" in row else 0.0 for row in rows], pa.float32()),
        "steerable": pa.array([row.get("steerable", False) for row in rows]),
        "density": pa.array([row.get("density", 0.1) for row in rows], pa.float32()),
        "share_before": pa.array([0.25] * len(rows), pa.float32()),
        "share_after": pa.array([0.25 + row.get("rise", 0.0) for row in rows], pa.float32()),
    }
    _write(copy / "features.parquet", columns)
    names = pq.read_table(copy / "concepts.parquet")["name"].to_pylist()
    means, most = zip(*(STRENGTHS.get(str(name), (1.0, 1.0)) for name in names), strict=True)
    _write(
        copy / "concepts.parquet",
        {"strength": pa.array(means, pa.float32()), "strength_95": pa.array(most, pa.float32())},
    )
    resign(copy, lambda manifest: manifest.update(format_minor=4))
    return copy


CURVES = ("curve_strengths", "curve_shares", "curve_ndcg_kept")


def as_1_5(bundle: Path, folder: Path) -> Path:
    """A copy of `bundle` in format 1.5."""
    copy = Path(shutil.copytree(bundle, folder / "bundle"))
    for name in ("features", "concepts"):
        _write(copy / f"{name}.parquet", {}, left_out=CURVES)
    (copy / "histories.parquet").unlink()

    def older(manifest: dict[str, Any]) -> None:
        manifest.update(format_minor=5)
        del manifest["files"]["histories.parquet"]

    resign(copy, older)
    return copy


def as_older(bundle: Path, folder: Path) -> Path:
    """A copy of `bundle` in format 1.3. Its first concept has a strong feature."""
    copy = Path(shutil.copytree(bundle, folder / "bundle"))
    count = pq.read_table(copy / "concepts.parquet").num_rows
    terms = {"features": [[0, 1]] * count, "weights": [[-2.5, 1.0], *([0.5, -1.5] for _ in range(count - 1))]}
    _write(copy / "features.parquet", {}, left_out=("kind",))
    _write(copy / "concepts.parquet", terms, left_out=("strength", "strength_95"))
    resign(copy, lambda manifest: manifest.update(format_minor=3))
    return copy


def _write(file: Path, columns: Mapping[str, Any], left_out: Collection[str] = ()) -> None:
    """Sets columns of the table in `file`."""
    table = pq.read_table(file)
    kept: dict[str, Any] = {name: table[name] for name in table.column_names if name not in left_out}
    pq.write_table(pa.table({**kept, **columns}), file)
