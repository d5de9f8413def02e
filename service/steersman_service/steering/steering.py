"""All controls of a request, composed."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import AppliedControl
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.engine.request import NO_EDITS, NO_ROWS, NO_STRENGTHS, Edits, Variant
from steersman_service.steering.control import EngineEdit, ParsedControl, fill
from steersman_service.steering.goals import ParsedGoal
from steersman_service.steering.tilts import tilts


class ConceptPart(NamedTuple):
    """A control on a concept that is solved, and its part of the solution: 1 where it is alone."""

    applied: AppliedControl
    part: float


class Steering(NamedTuple):
    """All controls of a request, as the engine takes them and as they are answered."""

    edits: Edits
    """Of the controls on features, items and words, in their order."""
    concepts_C: Array
    """Rows of the concepts that the engine solves, each once, in the order of their first controls."""
    concept_strengths_C: Array
    """Of all controls on each."""
    tilts_N: Array | None
    """Of the controls on attributes."""
    applied: Sequence[AppliedControl]
    """All controls in their order."""
    unresolved: Sequence[Sequence[ConceptPart]]
    """Those of `applied` that stand for each of `concepts_C`, which have no edits yet."""
    controls: Sequence[ParsedControl]
    """What it was composed of, as `applied`."""

    @classmethod
    def of(cls, parsed: Sequence[ParsedControl], catalogue: Catalogue, items: Items) -> "Steering":
        """What controls without fault come to together."""
        if not parsed:
            return UNSTEERED
        controls = _in_one_unit(parsed, catalogue)
        solved = [control for control in controls if control.solved]
        if solved:
            # Their answers get edits.
            controls = [control.copied() if control.solved else control for control in controls]
            solved = [control for control in controls if control.solved]
        concepts = _concepts(solved, catalogue) if solved else ()
        attributes = [control.applied.control for control in controls if control.kind.target == "attribute"]
        return cls(
            _joined([edit for control in controls for edit in control.edits]),
            np.array([row for row, _, _ in concepts], np.int64) if concepts else NO_ROWS,
            np.array([strength for _, strength, _ in concepts], np.float32) if concepts else NO_STRENGTHS,
            tilts(attributes, items),
            [control.applied for control in controls],
            [parts for _, _, parts in concepts],
            parsed,
        )

    @property
    def goals(self) -> list[ParsedGoal]:
        return [control.goal for control in self.controls if control.goal is not None]

    @property
    def has_goals(self) -> bool:
        return bool(self.goals)

    @property
    def variant(self) -> Variant:
        """As the engine takes them beside other ones."""
        return Variant(self.edits, self.concepts_C, self.concept_strengths_C, self.tilts_N)

    def resolve(self, concept_edits: Iterable[Edits], catalogue: Catalogue) -> Sequence[AppliedControl]:
        """What was applied: each concept gets the edits that the engine solved it to, the strongest first.

        Several controls on one share them in proportion to their strengths.
        """
        for parts, edits in zip(self.unresolved, concept_edits, strict=True):
            columns = [column.tolist() for column in _strongest_first(edits)]
            for applied, part in parts:
                add = applied.edits.add
                for feature, gain, strength in zip(*columns, strict=True):
                    fill(add(), feature, gain, part * strength, catalogue)
        return self.applied


UNSTEERED = Steering(NO_EDITS, NO_ROWS, NO_STRENGTHS, None, (), (), ())
"""By no control."""


def _in_one_unit(controls: Sequence[ParsedControl], catalogue: Catalogue) -> Sequence[ParsedControl]:
    """Where ADD turns a feature both ways, all take the unit of their sum, so that what one does another can undo."""
    added = [control.added_feature for control in controls if control.added_feature is not None]
    if len(set(added)) == len(added):
        return controls
    places: dict[int, list[int]] = {}
    for place, control in enumerate(controls):
        if control.added_feature is not None:
            places.setdefault(control.added_feature, []).append(place)
    moved = list(controls)
    for feature, same in places.items():
        strengths = [controls[place].applied.control.strength for place in same]
        if min(strengths) < 0 < max(strengths):
            units = catalogue.feature_units[feature]
            unit = units.up if sum(strengths) > 0 else units.down
            for place, strength in zip(same, strengths, strict=True):
                moved[place] = controls[place].at(unit * strength, catalogue)
    return moved


def _concepts(controls: Sequence[ParsedControl], catalogue: Catalogue) -> list[tuple[int, float, list[ConceptPart]]]:
    """Row, strength and controls of each concept: one named twice is solved once, at the sum. Nothing where they undo each other."""
    by_row: dict[int, list[ParsedControl]] = {}
    for control in controls:
        by_row.setdefault(control.row, []).append(control)
    concepts = []
    for row, same in by_row.items():
        total = sum([control.applied.control.strength for control in same])
        if total != 0:
            parts = [ConceptPart(each.applied, each.applied.control.strength / total) for each in same]
            concepts.append((row, catalogue.concept_units[row].of(total), parts))
    return concepts


def _joined(edits: Sequence[EngineEdit]) -> Edits:
    if not edits:
        return NO_EDITS
    features, gains, strengths = zip(*edits, strict=True)
    return Edits(np.array(features, np.int64), np.array(gains, np.float32), np.array(strengths, np.float32))


def _strongest_first(edits: Edits) -> Sequence[Array]:
    if len(edits.features_E) <= 1:
        return edits
    order = np.argsort(-np.abs(edits.strengths_E), kind="stable")
    return [column[order] for column in edits]
