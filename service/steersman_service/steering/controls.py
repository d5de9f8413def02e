"""Parses controls once: validation, the engine's request and the answer share the result."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import (
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    OPERATION_UNSPECIFIED,
    AppliedControl,
    Control,
    ControlSource,
    FeatureEdit,
    FeatureRef,
    Operation,
)
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.catalogue import NATURAL_RANGE, Catalogue, Units
from steersman_service.bundle.items import Items
from steersman_service.bundle.replacement import Replacements
from steersman_service.checks import did_you_mean
from steersman_service.engine.request import Edits, Variant
from steersman_service.errors import ENOUGH_VIOLATIONS, FieldViolation, StaleFeature, raise_if_any
from steersman_service.steering.conflicts import Conflicts
from steersman_service.steering.goals import MAX_GOALS, ParsedGoal, check_goal, parse_goal
from steersman_service.steering.names import display_name
from steersman_service.steering.targets import AIMED, Resolution, Targets
from steersman_service.steering.tilts import tilts

# Not edits that are known before the engine runs.
ENGINES_OWN = frozenset(("concept", "attribute"))
OPERATIONS = frozenset(Operation.values()) - {OPERATION_UNSPECIFIED}
ADD_ONLY = {"concept": "a concept", "attribute": "an attribute", "items": "an item set", "words": "a text"}
# Parsed controls that are kept, since a user's come again with every request, and the largest of them: no sound feature control is larger.
CACHED_CONTROLS, CACHED_BYTES = 4096, 256
# The same of item sets and words, which take longer to solve.
CACHED_AIMS, CACHED_AIM_BYTES = 256, 1 << 15
UNAIMED = Resolution()


class ParsedControl(NamedTuple):
    """A control, checked and resolved against the catalogue. Shared by requests: nothing of it may be changed."""

    applied: AppliedControl
    """As it is answered; one on a concept gets its edits from the engine."""
    target: str
    """ "feature", "concept", "attribute", "items", "words", or nothing."""
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


class ParsedControls(NamedTuple):
    """The controls of one field of a request, or of a session."""

    path: str
    """How errors name them: "controls" or "session.controls"."""
    controls: Sequence[ParsedControl]
    violations: Sequence[FieldViolation]


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

    @property
    def has_goals(self) -> bool:
        return any(control.goal is not None for control in self.controls)

    @property
    def variant(self) -> Variant:
        """As the engine takes them beside other ones."""
        return Variant(self.edits, self.concepts_C, self.concept_strengths_C, self.tilts_N)

    def resolve(self, concept_edits: Iterable[Edits], catalogue: Catalogue) -> Sequence[AppliedControl]:
        """What was applied: each concept gets the edits that the engine solved it to, the strongest first.

        Several controls on one share them in proportion to their strengths.
        """
        for parts, edits in zip(self.unresolved, concept_edits, strict=True):
            strongest = np.argsort(-np.abs(edits.strengths_E), kind="stable")
            columns = [column[strongest].tolist() for column in edits]
            for applied, part in parts:
                add = applied.edits.add
                for feature, gain, strength in zip(*columns, strict=True):
                    _fill(add(), feature, gain, part * strength, catalogue)
        return self.applied


@dataclass(frozen=True, eq=False)
class ControlParser:
    """Parses controls against one bundle and the server's limits."""

    version: str
    """The bundle's."""
    catalogue: Catalogue
    items: Items
    replacements: Replacements
    max_controls: int
    max_strength: float
    targets: Targets

    def parse(self, path: str, source: ControlSource, controls: Sequence[Control]) -> ParsedControls:
        """`path` is how errors name the controls. Too many are not looked at; unknown fields are dropped."""
        if (count := len(controls)) > self.max_controls:
            return ParsedControls(path, (), [FieldViolation(path, f"{count} controls; at most {self.max_controls}")])
        parsed: list[ParsedControl] = []
        violations: list[FieldViolation] = []
        for index, control in enumerate(controls):
            control.DiscardUnknownFields()
            data = control.SerializeToString()
            one = self._parser(control, len(data))(data, source)
            parsed.append(one)
            violations += [FieldViolation(f"{path}[{index}]{field}", why) for field, why in one.problems]
            if len(violations) >= ENOUGH_VIOLATIONS:
                break
        return ParsedControls(path, parsed, violations)

    def steer(self, *parts: ParsedControls) -> Steering:
        """Composes controls. Raises InvalidRequest, or StaleFeature for one of another bundle."""
        raise_if_any(violations(*parts))
        self.check_fresh(*parts)
        controls = [control for part in parts for control in part.controls]
        return self.composed(self._warned(controls, parts) if len(controls) > 1 else controls)

    def composed(self, parsed: Sequence[ParsedControl]) -> Steering:
        """What controls without fault come to together."""
        controls = self._in_one_unit([_own(control) for control in parsed])
        concepts = self._concepts([control for control in controls if control.solved])
        attributes = [control.applied.control for control in controls if control.target == "attribute"]
        return Steering(
            _edits(control for control in controls if control.target not in ENGINES_OWN),
            np.array([row for row, _, _ in concepts], np.int64),
            np.array([strength for _, strength, _ in concepts], np.float32),
            tilts(attributes, self.items),
            [control.applied for control in controls],
            [parts for _, _, parts in concepts],
            parsed,
        )

    def _in_one_unit(self, controls: list[ParsedControl]) -> list[ParsedControl]:
        """Where ADD turns a feature both ways, all take the unit of their sum, so that what one does another can undo."""
        rows = [control.row for control in controls if control.target == "feature"]
        if len(set(rows)) == len(rows):
            return controls
        places: dict[int, list[int]] = {}
        for place, control in enumerate(controls):
            own = control.target == "feature" and self._is_own("feature", control.applied.control)
            if own and control.goal is None and control.applied.control.operation == OPERATION_ADD:
                places.setdefault(control.row, []).append(place)
        for row, same in places.items():
            strengths = [controls[place].applied.control.strength for place in same]
            if min(strengths) < 0 < max(strengths):
                units = self.catalogue.feature_units[row]
                unit = units.up if sum(strengths) > 0 else units.down
                for place, strength in zip(same, strengths, strict=True):
                    controls[place] = _at(controls[place], unit * strength, self.catalogue)
        return controls

    def _concepts(self, controls: Sequence[ParsedControl]) -> list[tuple[int, float, list[ConceptPart]]]:
        """Row, strength and controls of each concept: one named twice is solved once, at the sum. Nothing where they undo each other."""
        by_row: dict[int, list[ParsedControl]] = {}
        for control in controls:
            by_row.setdefault(control.row, []).append(control)
        concepts = []
        for row, same in by_row.items():
            total = sum(control.applied.control.strength for control in same)
            if total != 0:
                parts = [ConceptPart(each.applied, each.applied.control.strength / total) for each in same]
                concepts.append((row, self.catalogue.concept_units[row].of(total), parts))
        return concepts

    def at_strength(self, control: ParsedControl, strength: float) -> ParsedControl:
        """A control whose goal was solved, as if the caller had given this strength in place of the goal."""
        solved = Control()
        solved.CopyFrom(control.applied.control)
        solved.ClearField("goal")
        solved.strength = strength
        parsed = self._parse(solved.SerializeToString(), control.applied.source)
        del parsed.applied.warnings[:]
        parsed.applied.warnings.extend(control.applied.warnings)
        return parsed

    def check_fresh(self, *parts: ParsedControls) -> None:
        """Raises StaleFeature for a feature of another bundle."""
        for path, controls, _ in parts:
            for index, control in enumerate(controls):
                if control.stale:
                    feature = control.applied.control.feature
                    self.check_version(f"{path}[{index}].feature.bundle_version", feature.bundle_version, feature.id)

    def check_version(self, path: str, version: str, feature: int) -> None:
        """Raises StaleFeature, with the likely replacement, unless `version` is the bundle's."""
        if version == self.version:
            return
        message = f"{path}: feature {feature} belongs to bundle {version[:64]}, this is {self.version}"
        metadata = {"field": path, "bundle_version": self.version}
        found = self.replacements.find(version, feature)
        if found is None:
            raise StaleFeature(f"{message}; ListFeatures gives the features of this one", metadata=metadata)
        label = self.catalogue.labels[found][:100]
        metadata |= {"replacement_id": str(found), "replacement_label": label}
        raise StaleFeature(f"{message}; its likely replacement is feature {found}, {label!r}", metadata=metadata)

    @cached_property
    def _units(self) -> dict[str, Sequence[Units]]:
        return {"feature": self.catalogue.feature_units, "concept": self.catalogue.concept_units}

    @cached_property
    def _cached(self) -> Callable[[bytes, ControlSource], ParsedControl]:
        return lru_cache(CACHED_CONTROLS)(self._parse)

    @cached_property
    def _cached_aims(self) -> Callable[[bytes, ControlSource], ParsedControl]:
        return lru_cache(CACHED_AIMS)(self._parse)

    @cached_property
    def _conflicts(self) -> Conflicts:
        return Conflicts(self.targets.aims)

    def _parser(self, control: Control, size: int) -> Callable[[bytes, ControlSource], ParsedControl]:
        if size <= CACHED_BYTES:
            return self._cached
        return self._cached_aims if size <= CACHED_AIM_BYTES and control.WhichOneof("target") in AIMED else self._parse

    def _warned(self, controls: list[ParsedControl], parts: Iterable[ParsedControls]) -> list[ParsedControl]:
        """The same, with warnings of those that undo or double an earlier one."""
        found = self._conflicts.find(tuple([(one.unit, _sign(one)) for one in controls]))
        if not found:
            return controls
        paths = [f"{path}[{index}]" for path, own, _ in parts for index in range(len(own))]
        warned = list(controls)
        for place, other, undoing in found:
            warned[place] = _copied(warned[place]) if warned[place] is controls[place] else warned[place]
            why = "ask for opposite things: they undo each other" if undoing else "ask for nearly the same: they double"
            warned[place].applied.warnings.append(f"{paths[place]} and {paths[other]} {why}")
        return warned

    def _parse(self, data: bytes, source: ControlSource) -> ParsedControl:
        control = Control.FromString(data)
        target = control.WhichOneof("target") or ""
        problems = list(self._problems(target, control))
        stale = target == "feature" and control.feature.bundle_version != self.version
        row = control.feature.id if target == "feature" else self.catalogue.concept_rows.get(control.concept, 0)
        resolution = UNAIMED if problems else self._resolve(target, control, row, stale=stale)
        problems += resolution.problems
        stale = stale and not resolution.edits
        goal = None
        if control.HasField("goal") and not problems:
            goal = parse_goal(control, self.catalogue, self.items, self.max_strength)
        gain, strength = _gain_and_strength(control) if goal is None else (1.0, 0.0)
        if control.operation == OPERATION_ADD and self._is_own(target, control) and not problems:
            strength = self._units[target][row].of(strength)
        applied = AppliedControl(
            control=control, source=source, carried_confidence=resolution.confidence, warnings=resolution.warnings
        )
        if target not in ENGINES_OWN and not stale and not problems and (gain != 1 or strength != 0):
            for feature, unit in resolution.edits:
                _fill(applied.edits.add(), feature, gain, unit * strength, self.catalogue)
        if not problems and not stale:
            applied.display_name = display_name(control, self.version, self.catalogue, self.targets.older)
        solved = target == "concept" and strength != 0
        return ParsedControl(applied, target, row, gain, strength, problems, stale, solved, resolution.edits, goal)

    def _is_own(self, target: str, control: Control) -> bool:
        """Whether it names a concept or a feature of this bundle, which have units."""
        return target == "concept" or (target == "feature" and control.feature.bundle_version == self.version)

    def _resolve(self, target: str, control: Control, row: int, *, stale: bool) -> Resolution:
        """What a sound control adds at strength 1."""
        if target in AIMED:
            return self.targets.resolve(control)
        if target == "feature":
            return (self.targets.carried(control) or UNAIMED) if stale else Resolution(((row, 1.0),))
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
        elif feature.bundle_version == self.version and feature.id >= len(features):
            yield FieldViolation(".feature.id", f"unknown feature {feature.id}; there are {len(features)}, from 0")
        elif feature.bundle_version == self.version and not features[feature.id].scale:
            why = f"feature {feature.id} is dead (never active): it cannot be steered"
            yield FieldViolation(".feature.id", why)


def violations(*parts: ParsedControls) -> Sequence[FieldViolation]:
    """What is wrong with controls, taken together; not all if there are very many."""
    own = [violation for part in parts for violation in part.violations][:ENOUGH_VIOLATIONS]
    return own or [*_repeated_sets(parts), *_too_many_goals(parts)]


def _sign(control: ParsedControl) -> int:
    """Of its strength; 0 for one that is no addition."""
    return (control.strength > 0) - (control.strength < 0) if control.gain == 1 else 0


def _edits(controls: Iterable[ParsedControl]) -> Edits:
    edits = [(feature, one.gain, unit * one.strength) for one in controls for feature, unit in one.unit]
    features, gains, strengths = zip(*edits, strict=True) if edits else ((), (), ())
    return Edits(np.array(features, np.int64), np.array(gains, np.float32), np.array(strengths, np.float32))


def _own(control: ParsedControl) -> ParsedControl:
    """One whose answer may get edits; what is shared by requests has none."""
    return _copied(control) if control.solved else control


def _copied(control: ParsedControl) -> ParsedControl:
    applied = AppliedControl()
    applied.CopyFrom(control.applied)
    return control._replace(applied=applied)


def _fill(edit: FeatureEdit, feature: int, gain: float, strength: float, catalogue: Catalogue) -> None:
    """Field by field: keyword arguments would be looked up."""
    edit.feature_id, edit.label = feature, catalogue.labels[feature]
    edit.gain, edit.strength = gain, strength
    edit.beyond_natural = abs(strength) > NATURAL_RANGE
    edit.control_strength = catalogue.feature_units[feature].needed(strength) if gain == 1 else 0.0


def _at(control: ParsedControl, strength: float, catalogue: Catalogue) -> ParsedControl:
    """The same control on a feature, at another strength of the feature's own."""
    applied = AppliedControl()
    applied.CopyFrom(control.applied)
    for edit in applied.edits:
        _fill(edit, edit.feature_id, edit.gain, strength, catalogue)
    return control._replace(applied=applied, strength=strength)


def _repeated_sets(parts: Iterable[ParsedControls]) -> Sequence[FieldViolation]:
    first: dict[int, str] = {}
    repeated = []
    for path, controls, _ in parts:
        for index, control in enumerate(controls):
            if control.applied.control.operation == OPERATION_SET:
                here = f"{path}[{index}]"
                if (other := first.setdefault(control.row, here)) != here:
                    repeated.append(FieldViolation(here, f"a second SET on feature {control.row}, beside {other}"))
    return repeated


def _too_many_goals(parts: Iterable[ParsedControls]) -> Iterator[FieldViolation]:
    goals = [part.path for part in parts for control in part.controls if control.goal is not None]
    if len(goals) > MAX_GOALS:
        yield FieldViolation(
            goals[-1], f"{len(goals)} goals of one request; at most {MAX_GOALS}, beside plain strengths"
        )


def _gain_and_strength(control: Control) -> tuple[float, float]:
    """DESIGN, "The mathematics": add (1, s), set (0, s), scale (g, 0), ablate (0, 0). In the control's own strength."""
    if control.operation == OPERATION_SCALE:
        return control.strength, 0.0
    return (1.0 if control.operation == OPERATION_ADD else 0.0), control.strength
