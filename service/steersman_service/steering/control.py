"""One control: what is wrong with it, and what it comes down to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steersman.v1.control_pb2 import (
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_UNSPECIFIED,
    AppliedControl,
    Control,
    ControlSource,
    FeatureEdit,
    FeatureRef,
    Operation,
)
from steersman_service.bundle.catalogue import NATURAL_RANGE, Catalogue
from steersman_service.bundle.items import Items
from steersman_service.checks import MAX_VERSION_BYTES, check_bytes, did_you_mean
from steersman_service.errors import FieldViolation
from steersman_service.steering.conflicts import UNJUDGED, Direction
from steersman_service.steering.goals import ParsedGoal, check_goal, parse_goal
from steersman_service.steering.names import display_name
from steersman_service.steering.targets import AIMED, Resolution, Targets

# Not edits that are known before the engine runs.
ENGINES_OWN = frozenset(("concept", "attribute"))
OPERATIONS = frozenset(Operation.values()) - {OPERATION_UNSPECIFIED}
ADD_ONLY = {"concept": "a concept", "attribute": "an attribute", "items": "an item set", "words": "a text"}
UNAIMED = Resolution()

EngineEdit = tuple[int, float, float]
"""Feature, gain, and strength in units of the feature's scale."""


class ControlKind(NamedTuple):
    """By which controls are counted."""

    target: str
    """ "feature", "concept", "attribute", "items", "words", or nothing."""
    operation: Operation
    source: ControlSource


class ParsedControl(NamedTuple):
    """A control, checked and resolved against the catalogue. Shared by requests: nothing of it may be changed."""

    applied: AppliedControl
    """As it is answered; one on a concept gets its edits from the engine."""
    kind: ControlKind
    row: int
    """Of the feature or the concept."""
    gain: float
    strength: float
    """In units of the feature's scale; of a concept, in units of its calibration; of a tilt, in nats."""
    problems: Sequence[FieldViolation]
    """Fields from the control's own path on: ".strength"."""
    stale: bool
    """Whether it names a feature of another bundle."""
    solved: bool
    """Whether the engine says which edits it comes down to: a concept at strength 0 is none."""
    unit: tuple[tuple[int, float], ...] = ()
    """What it adds at strength 1: (feature, strength in units of its scale). Of a concept, the mean over users; nothing of an attribute."""
    goal: ParsedGoal | None = None
    """In place of a strength, which is 0 until it is found."""
    added_feature: int | None = None
    """The feature of this bundle that it adds to, at a strength of its own."""
    edits: tuple[EngineEdit, ...] = ()
    """What the engine is given of it; nothing of a concept or an attribute."""
    direction: Direction = UNJUDGED

    @property
    def target(self) -> str:
        return self.kind.target

    def copied(self) -> "ParsedControl":
        """With an answer of its own, that may be changed."""
        applied = AppliedControl()
        applied.CopyFrom(self.applied)
        return self._replace(applied=applied)

    def at(self, strength: float, catalogue: Catalogue) -> "ParsedControl":
        """The same control on a feature, at another strength in units of the feature's scale."""
        moved = self.copied()
        for edit in moved.applied.edits:
            fill(edit, edit.feature_id, edit.gain, strength, catalogue)
        edits = tuple(
            (feature, gain, unit * strength)
            for (feature, gain, _), (_, unit) in zip(self.edits, self.unit, strict=True)
        )
        return moved._replace(strength=strength, edits=edits)


def fill(edit: FeatureEdit, feature: int, gain: float, strength: float, catalogue: Catalogue) -> None:
    """Field by field: keyword arguments would be looked up."""
    edit.feature_id, edit.label = feature, catalogue.labels[feature]
    edit.gain, edit.strength = gain, strength
    edit.beyond_natural = abs(strength) > NATURAL_RANGE
    edit.control_strength = catalogue.feature_units[feature].needed(strength) if gain == 1 else 0.0


@dataclass(frozen=True, eq=False)
class ControlReader:
    """Reads one control at a time, against one bundle and the server's limits."""

    version: str
    """The bundle's."""
    catalogue: Catalogue
    items: Items
    max_strength: float
    targets: Targets

    def read(self, data: bytes, source: ControlSource) -> ParsedControl:
        """`data` is a Control; its unknown fields are dropped."""
        control = Control.FromString(data)
        control.DiscardUnknownFields()
        target = control.WhichOneof("target") or ""
        problems = list(self._problems(target, control))
        own = target == "feature" and control.feature.bundle_version == self.version
        row = control.feature.id if target == "feature" else self.catalogue.concept_rows.get(control.concept, 0)
        resolution = UNAIMED if problems else self._resolve(target, control, row, own=own)
        problems += resolution.problems
        stale = target == "feature" and not own and not resolution.edits
        goal = None
        if control.HasField("goal") and not problems:
            goal = parse_goal(control, self.catalogue, self.items, self.max_strength)
        added_feature = row if own and goal is None and control.operation == OPERATION_ADD else None
        gain, strength = (
            (1.0, 0.0) if goal is not None or problems else self._gain_and_strength(control, target, row, own=own)
        )
        edits: tuple[EngineEdit, ...] = ()
        if target not in ENGINES_OWN:
            edits = tuple((feature, gain, unit * strength) for feature, unit in resolution.edits)
        applied = AppliedControl(
            control=control, source=source, carried_confidence=resolution.confidence, warnings=resolution.warnings
        )
        if gain != 1 or strength != 0:
            for edit in edits:
                fill(applied.edits.add(), *edit, self.catalogue)
        if not problems and not stale:
            applied.display_name = display_name(control, self.version, self.catalogue, self.targets.older)
        return ParsedControl(
            applied,
            ControlKind(target, control.operation, source),
            row,
            gain,
            strength,
            problems,
            stale,
            solved=target == "concept" and strength != 0,
            unit=resolution.edits,
            goal=goal,
            added_feature=added_feature,
            edits=edits,
            direction=(resolution.edits, (strength > 0) - (strength < 0) if gain == 1 else 0),
        )

    def _gain_and_strength(self, control: Control, target: str, row: int, *, own: bool) -> tuple[float, float]:
        """DESIGN, "The mathematics": add (1, s), set (0, s), scale (g, 0), ablate (0, 0)."""
        strength = control.strength
        if control.operation == OPERATION_SCALE:
            return strength, 0.0
        if control.operation != OPERATION_ADD:
            return 0.0, strength
        if own:
            strength = self.catalogue.feature_units[row].of(strength)
        elif target == "concept":
            strength = self.catalogue.concept_units[row].of(strength)
        return 1.0, strength

    def _resolve(self, target: str, control: Control, row: int, *, own: bool) -> Resolution:
        """What a sound control adds at strength 1."""
        if target in AIMED:
            return self.targets.resolve(control)
        if target == "feature":
            return Resolution(((row, 1.0),)) if own else self.targets.carried(control) or UNAIMED
        if target == "concept":
            return Resolution(tuple((term.feature_id, term.weight) for term in self.catalogue.concepts[row].terms))
        return UNAIMED

    def _problems(self, target: str, control: Control) -> Iterator[FieldViolation]:
        if not target:
            yield FieldViolation("", "names no feature, concept, attribute, items or words")
        if control.operation not in OPERATIONS:
            yield FieldViolation(".operation", "must be ADD, SET, SCALE or ABLATE")
        elif target in ADD_ONLY and control.operation != OPERATION_ADD:
            yield FieldViolation(".operation", f"{ADD_ONLY[target]} takes ADD only")
        if target == "concept" and control.concept not in self.catalogue.concept_rows:
            hint = did_you_mean(control.concept, self.catalogue.concept_rows, "ListConcepts gives their names")
            yield FieldViolation(".concept", f"unknown concept {control.concept[:100]!r}; {hint}")
        elif target == "feature":
            yield from self._feature_problems(control.feature)
        elif target == "attribute":
            name, value = control.attribute.name, control.attribute.value
            if (column := self.items.attributes.get(name)) is None:
                yield FieldViolation(".attribute.name", self.items.unknown_attribute(name))
            elif why := column.why_no_tilt(value):
                yield FieldViolation(".attribute.value", why)
        least = 0.0 if control.operation == OPERATION_SCALE else -self.max_strength
        if control.operation == OPERATION_ABLATE and control.strength != 0:
            yield FieldViolation(".strength", "ABLATE takes no strength")
        elif not least <= control.strength <= self.max_strength:  # nor is NaN
            why = f"{control.strength:g} is not between {least:g} and {self.max_strength:g}"
            yield FieldViolation(".strength", why)
        if control.HasField("goal"):
            yield from check_goal(control, self.catalogue, self.items)

    def _feature_problems(self, feature: FeatureRef) -> Iterator[FieldViolation]:
        features = self.catalogue.features
        if not feature.bundle_version:
            why = "is empty: feature ids change at every training, so say which bundle the id was taken from"
            here = f"(ListFeatures gives it; this one is {self.version})"
            yield FieldViolation(".feature.bundle_version", f"{why} {here}")
        elif wrong := list(check_bytes(".feature.bundle_version", feature.bundle_version, 0, MAX_VERSION_BYTES)):
            yield from wrong
        elif feature.bundle_version == self.version and feature.id >= len(features):
            yield FieldViolation(".feature.id", f"unknown feature {feature.id}; there are {len(features)}, from 0")
        elif feature.bundle_version == self.version and not features[feature.id].scale:
            why = f"feature {feature.id} is dead (never active): it cannot be steered"
            yield FieldViolation(".feature.id", why)
