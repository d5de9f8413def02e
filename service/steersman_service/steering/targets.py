"""Targets that are not in the catalogue: item sets, words, and features of older bundles, each solved into a few features of this one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman_service.bundle.items import Items
from steersman_service.bundle.older import OlderBundles
from steersman_service.checks import check_item_ids
from steersman_service.errors import FieldViolation
from steersman_service.steering.aims import Aims, Solution
from steersman_service.steering.words import Words

AIMED = frozenset(("items", "words"))
MAX_SET_ITEMS = 1000
"""Ids of one item set: it may be kept with a session, which is read with every request."""
MAX_WORDS_BYTES = 256
LEAST_RAISED = 1.0
"""Standard deviations over items by which an item set, or what words say, has to be lifted."""
LEAST_CONFIDENCE = 0.6
"""Correlation of what a feature of an older bundle added to scores with what stands for it now."""
LEAST_COMMON = 0.5
"""Share of what is recommended that both bundles have."""
REMEDY = "use a concept, an attribute or a filter instead"
SHOWN = 8


class Resolution(NamedTuple):
    """What a target comes down to."""

    edits: tuple[tuple[int, float], ...] = ()
    """(feature, strength), at strength 1 of the control."""
    confidence: float = 0.0
    """Of a feature that was carried from an older bundle, 0 to 1."""
    warnings: Sequence[str] = ()
    problems: Sequence[FieldViolation] = ()


@dataclass(frozen=True, eq=False)
class Targets:
    aims: Aims
    items: Items
    words: Words
    older: OlderBundles
    labels: Sequence[str]
    max_items: int

    def resolve(self, control: Control) -> Resolution:
        """Of a control on items or words."""
        target = control.WhichOneof("target") or ""
        if self.aims.why_not:
            return _wrong(f".{target}", f"{self.aims.why_not}; {REMEDY}")
        return self._items(control.items.item_ids) if target == "items" else self._words(control.words)

    def _items(self, item_ids: Sequence[str]) -> Resolution:
        field, most = ".items.item_ids", min(self.max_items, MAX_SET_ITEMS)
        if not 1 <= len(item_ids) <= most:
            return _wrong(field, f"{len(item_ids)} ids; 1 to {most} are allowed")
        if too_long := list(check_item_ids(field, item_ids)):
            return Resolution(problems=too_long)
        given = set(item_ids)
        rows_S = np.unique(self.items.rows(given))
        if not len(rows_S):
            return _wrong(field, f"the bundle knows none of the {len(given)} items; ListItems finds ids by title")
        unknown = len(given) - len(rows_S)
        warnings = [f"{unknown} of {len(given)} items are unknown, and left out"] if unknown else []
        return self._enough(".items", self.aims.of_items(rows_S), "these items", warnings)

    def _words(self, text: str) -> Resolution:
        if (size := len(text.encode())) > MAX_WORDS_BYTES:
            return _wrong(".words", f"has {size} bytes; 1 to {MAX_WORDS_BYTES} are allowed")
        if not text.strip():
            return _wrong(".words", "is empty: say what is asked for")
        reading = self.words.read(text)
        if not reading.known:
            names = ", ".join(self.items.attributes) or "none"
            why = f"no title, attribute value or label has any of these words; values of attributes ({names}): ListAttributes"
            return _wrong(".words", why)
        warnings = []
        if reading.unknown:
            warnings.append(f"unknown words, left out: {_listed(reading.unknown)}")
        if reading.negated:
            why = "what is not wanted is not understood; ask for less of it by a control with a negative strength"
            warnings.append(f"left out: {_listed(reading.negated)}: {why}")
        return self._enough(".words", reading.solution, f"what {_listed(reading.known)} stands for", warnings)

    def _enough(self, field: str, solution: Solution, what: str, warnings: Sequence[str]) -> Resolution:
        if solution.raised < LEAST_RAISED:
            why = f"no features of this bundle raise {what} alone (by {solution.raised:.2f} standard deviations; at least {LEAST_RAISED:g})"
            return _wrong(field, f"{why}; {REMEDY}")
        return Resolution(solution.edits, warnings=warnings)

    def carried(self, control: Control) -> Resolution | None:
        """Of a control on a feature of an older bundle. None: nothing in this bundle does what it did, or it cannot be told."""
        feature: FeatureRef = control.feature
        if self.aims.why_not or control.operation != OPERATION_ADD:
            return None
        old = self.older.find(feature.bundle_version)
        if old is None or feature.id >= len(old.scales_F) or not old.scales_F[feature.id]:
            return None
        counted = self.aims.weights_N[self.aims.counted_M].sum()
        if self.aims.weights_N[old.rows_S].sum() < LEAST_COMMON * counted:
            return None
        solution = self.aims.of_scores(old.rows_S, old.added(feature.id))
        if solution.raised < LEAST_CONFIDENCE:
            return None
        unit = old.unit(feature.id, control.strength)
        edits = tuple((row, unit * strength) for row, strength in solution.edits)
        now = ", ".join(f"{strength:+.2f} f{row} {self.labels[row][:60]!r}" for row, strength in edits)
        was = f"feature {feature.id} {old.labels[feature.id][:60]!r} of bundle {feature.bundle_version[:12]}"
        warning = (
            f"{was} is carried to this bundle with confidence {solution.raised:.2f}; at strength 1 it is now {now}"
        )
        return Resolution(edits, solution.raised, [warning])


def _wrong(field: str, why: str) -> Resolution:
    return Resolution(problems=[FieldViolation(field, why)])


def _listed(words: Iterable[str]) -> str:
    shown = list(words)
    return ", ".join(map(repr, shown[:SHOWN])) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
