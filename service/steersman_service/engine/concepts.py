"""Compares what the graph `concept` does with the names, attribute values and features of concepts.parquet, by which callers ask for it.

Dimensions: B rows, C concepts of a row (one), K candidates, E edits, N items.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steersman_service.bundle.bundle import SUFFIXES, Array
from steersman_service.bundle.files import AGAIN
from steersman_service.engine.golden import resized, tolerance_of
from steersman_service.engine.graphs import Graphs
from steersman_service.errors import BundleError

CONCEPT, CONCEPTS = "concept", "concepts.parquet"
COLUMNS = ["name", "attribute", "value", "features", "weights"]
# What a control of strength 1 gives the graph. Bundles older than 1.5 have no units.
UNIT = "unit_up"
# Rows have said which features a concept has, and concepts of values that no candidate has have come down to nothing, since this format.
FIRST_MINOR = 4
# Each takes its candidates' vectors: 16 MB for 512 candidates of 128 numbers.
ROWS_A_BATCH = 64


class _Candidates(NamedTuple):
    """Item rows. (K,) each."""

    telling_K: Array
    """Some have the concept's value and some have not; or small numbers and large ones."""
    silent_K: Array | None
    """None has it, or all have the same number: a concept has nothing to do. None: there are no such items."""


def check_concepts(graphs: Graphs) -> None:
    """Has every concept solved on items that differ in its attribute value, and on items that do not.

    Raises BundleError, with the concept, where it edits a feature that its row does not name, or one although no item has its value, or, if
    it is the same in every state, by another strength than its row says. Bundles older than format 1.4 have no such rows.
    """
    bundle = graphs.bundle
    if bundle.manifest.format_minor < FIRST_MINOR or not bundle.manifest.shape.concepts:
        return
    try:
        rows = bundle.concepts.select(COLUMNS).to_pylist()
        units = bundle.concepts[UNIT].to_pylist() if UNIT in bundle.concepts.column_names else [None] * len(rows)
    except (LookupError, pa.ArrowException) as error:
        raise BundleError(CONCEPTS, f"has no such columns as format 1.4 has: {error}; {AGAIN}") from error
    solved = {"candidates_BK", "candidate_scores_BK"} <= {*graphs.inputs[CONCEPT]}
    most = bundle.golden[CONCEPT]["candidates_BK"].shape[1] if solved else 0
    candidates_of = lru_cache(maxsize=None)(lambda attribute: _attribute(bundle.items, attribute, most))
    for start in range(0, len(rows), ROWS_A_BATCH):
        part = rows[start : start + ROWS_A_BATCH]
        found = [candidates_of(row["attribute"])(row["value"] or "") for row in part] if solved else []
        strengths = [unit or 1.0 for unit in units[start : start + len(part)]]
        telling = _resolved(graphs, start, strengths, [each.telling_K for each in found])
        for row, edits in zip(part, telling, strict=True):
            _check_features(graphs, row, edits, exact=not solved)
        silent = [each.telling_K if each.silent_K is None else each.silent_K for each in found]
        if solved:
            for row, each, edits in zip(part, found, _resolved(graphs, start, strengths, silent), strict=True):
                if each.silent_K is not None and edits:
                    named = f"{row['attribute']}: {row['value']}" if row["value"] else row["attribute"]
                    why = f"{_file(graphs)} does something where no item differs in {named}: names and graph do not fit"
                    raise BundleError(CONCEPTS, f"concept {row['name']!r}: {why}; {AGAIN}")


def _check_features(graphs: Graphs, row: Any, edits: dict[int, float], *, exact: bool) -> None:
    wanted = dict(zip(row["features"] or (), row["weights"] or (), strict=False))
    if other := sorted(edits.keys() - wanted.keys()):
        why = f"{_file(graphs)} edits feature {other[0]}, and its row names {sorted(wanted) or 'none'}"
        raise BundleError(CONCEPTS, f"concept {row['name']!r}: {why}; {AGAIN}")
    tolerance = tolerance_of(graphs)
    for feature, weight in wanted.items() if exact else ():
        if not np.isclose(edits.get(feature, 0.0), weight, rtol=tolerance.relative, atol=tolerance.absolute):
            why = f"{_file(graphs)} edits feature {feature} by {edits.get(feature, 0.0):.4g}, its row says {weight:.4g}"
            raise BundleError(CONCEPTS, f"concept {row['name']!r}: {why}; {AGAIN}")


def _resolved(
    graphs: Graphs, start: int, strengths: list[float], candidates: list[Array]
) -> Iterator[dict[int, float]]:
    """Of concepts from `start` on, each at its strength: strengths by feature."""
    count = len(strengths)
    inputs = dict(resized(graphs.bundle.golden[CONCEPT], count))
    inputs["concepts_BC"] = np.arange(start, start + count, dtype=np.int64)[:, None]
    inputs["concept_strengths_BC"] = np.array(strengths, np.float32)[:, None]
    if candidates:
        inputs["candidates_BK"] = np.stack(candidates)
        # Equally good, but for the last one, which does not count.
        inputs["candidate_scores_BK"] = np.zeros(inputs["candidates_BK"].shape, np.float32)
        inputs["candidate_scores_BK"][:, -1] = -1
    try:
        outputs = graphs.replay(CONCEPT, {name: inputs[name] for name in graphs.inputs[CONCEPT] if name in inputs})
        features_BE, edits_BE = (outputs[f"concept_{name}_BE"].tolist() for name in ("features", "edits"))
    except Exception as error:
        raise BundleError(_file(graphs), f"does not solve its concepts: {error}") from error
    for features, edits in zip(features_BE, edits_BE, strict=True):
        yield {feature: edit for feature, edit in zip(features, edits, strict=True) if edit}


def _file(graphs: Graphs) -> str:
    return f"{CONCEPT}{SUFFIXES[graphs.backend.name]}"


def _attribute(items: pa.Table, attribute: str, most: int) -> Callable[[str], _Candidates]:
    """From a value of an attribute to `most` candidates of each kind."""
    if attribute not in items.column_names:
        raise BundleError(CONCEPTS, f"has a concept of {attribute!r}, which items.parquet lacks; {AGAIN}")
    column: Any = items[attribute].combine_chunks()
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return lambda value: _by_number(column.to_numpy(zero_copy_only=False).astype(float), most)
    rows, values = pc.list_parent_indices(column).to_numpy(), column.flatten()

    def by_value(value: str) -> _Candidates:
        has_N = np.zeros(len(column), np.bool_)
        has_N[rows[pc.equal(values, pa.scalar(value, values.type)).fill_null(False).to_numpy(zero_copy_only=False)]] = (
            True
        )
        others = np.flatnonzero(~has_N)
        return _Candidates(_mixed(np.flatnonzero(has_N), others, most), _spread(others, most) if len(others) else None)

    return by_value


def _by_number(values_N: Array, most: int) -> _Candidates:
    order = np.argsort(values_N)  # unknown ones last
    known = order[: np.isfinite(values_N).sum()]
    middle = len(known) // 2
    numbers, counts = np.unique(values_N[known], return_counts=True)
    same = np.flatnonzero(values_N == numbers[counts.argmax()]) if len(numbers) else known
    return _Candidates(_mixed(known[:middle], known[middle:], most), _spread(same, most) if len(same) > 1 else None)


def _mixed(some: Array, others: Array, most: int) -> Array:
    """Half of each, in turns."""
    parts = [_spread(part, -(-most // 2)) for part in (some, others) if len(part)] or [np.zeros(most, np.int64)]
    return np.stack(parts, axis=1).ravel()[:most] if len(parts) > 1 else np.resize(parts[0], most)


def _spread(rows: Array, most: int) -> Array:
    """`most` of them, from the first to the last; some of them several times where there are fewer."""
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)].astype(np.int64)
