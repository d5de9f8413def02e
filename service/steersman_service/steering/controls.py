"""Validates controls, and maps them to what the graphs take. What an edit does to a state is the graphs' affair."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
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
    Operation,
)
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.bundle.replacement import Replacements
from steersman_service.checks import did_you_mean
from steersman_service.engine.request import Edits
from steersman_service.errors import ENOUGH_VIOLATIONS, StaleFeature, Violation
from steersman_service.steering.tilts import check_attribute, tilts

OPERATIONS = frozenset(Operation.values()) - {OPERATION_UNSPECIFIED}
ADD_ONLY = {"concept": "a concept", "attribute": "an attribute"}
# Controls on features that a reader knows to be sound, and what it keeps of them: those of a user come again with every request. A
# control that takes more bytes is of no bundle.
KNOWN_CONTROLS = 4096
KNOWN_BYTES = 256


class Steering(NamedTuple):
    """Controls, in the form that the graphs take."""

    edits: Edits
    """Of the controls on features, in their order."""
    concepts_C: Array
    """Of the controls on concepts, in their order, but for those at strength 0, which come down to nothing."""
    concept_strengths_C: Array
    tilts_N: Array | None
    """Of the controls on attributes."""
    applied: list[AppliedControl]
    """All controls in their order; those on concepts have no edits yet."""

    def resolved(self, concept_edits: Iterable[Edits], catalogue: Catalogue) -> list[AppliedControl]:
        """What was applied, once the engine has said what each concept came down to: the strongest edits first."""
        of_concepts = iter(concept_edits)
        for applied in self.applied:
            if applied.control.WhichOneof("target") == "concept" and applied.control.strength:
                edits = next(of_concepts)
                strongest = np.argsort(-np.abs(edits.strengths_E), kind="stable")
                add, labels = applied.edits.add, catalogue.labels
                # Made where they stay, field by field: a list of them would be copied, and names of arguments looked up.
                for feature, gain, strength in zip(*(part[strongest].tolist() for part in edits), strict=True):
                    edit = add()
                    edit.feature_id, edit.label = feature, labels[feature]
                    edit.gain, edit.strength = gain, strength
        return self.applied


class _FeatureControl(NamedTuple):
    """A sound control on a feature."""

    applied: AppliedControl
    """As it is answered. Nobody changes it."""
    feature: int
    gain: float
    strength: float


class Source(NamedTuple):
    """Controls and where they came from."""

    path: str
    """How errors name them: "controls" or "session.controls"."""
    kind: ControlSource
    number: int
    controls: Sequence[Control]
    """All of them; none if there are too many."""
    known: Sequence[_FeatureControl | None]
    """Of each of them that is on a feature, if nothing is wrong with it. None says nothing."""


def kept_control(data: bytes) -> Control:
    """A sticky control of a session. Fields that nobody knows are dropped: servers once kept them, of any size."""
    control = Control.FromString(data)
    control.DiscardUnknownFields()
    return control


class ControlReader:
    """Knows the bundle's catalogue, its items and the server's limits."""

    def __init__(
        self,
        version: str,
        catalogue: Catalogue,
        items: Items,
        replacements: Replacements,
        *,
        max_controls: int,
        max_strength: float,
    ) -> None:
        self._version = version
        self._catalogue = catalogue
        self._items = items
        self._replacements = replacements
        self._max_controls = max_controls
        self._max_strength = max_strength
        self._known = lru_cache(KNOWN_CONTROLS)(self._know)

    def source(self, path: str, kind: ControlSource, controls: Sequence[Control]) -> Source:
        """`path` is how errors shall name the controls. Fields of theirs that nobody knows are dropped."""
        count = len(controls)
        if count > self._max_controls:
            return Source(path, kind, count, (), ())  # refused for that, and not looked at
        controls = list(controls)
        for control in controls:
            control.DiscardUnknownFields()
        serialized = [control.SerializeToString() for control in controls]
        known = [self._known(control, kind) if len(control) <= KNOWN_BYTES else None for control in serialized]
        return Source(path, kind, count, controls, known)

    def check(self, *sources: Source) -> list[Violation]:
        """What is wrong with the controls, taken together."""
        found = (violation for source in sources for violation in self._check_source(source))
        return list(islice(found, ENOUGH_VIOLATIONS)) or list(_repeated_sets(sources))

    def read(self, *sources: Source) -> Steering:
        """Maps controls that `check` has nothing against. Raises StaleFeature for one of another bundle."""
        applied: list[AppliedControl] = []
        features: list[_FeatureControl] = []
        concepts: list[Control] = []
        attributes: list[Control] = []
        for source in sources:
            for index, (control, known) in enumerate(zip(source.controls, source.known, strict=True)):
                if known is None and control.HasField("feature"):  # of another bundle, or larger than what is kept
                    path = f"{source.path}[{index}].feature.bundle_version"
                    self.check_version(path, control.feature.bundle_version, control.feature.id)
                    known = self._feature_control(control, source.kind)
                if known is not None:
                    features.append(known)
                    applied.append(known.applied)
                else:
                    if control.HasField("attribute"):
                        attributes.append(control)
                    elif control.strength:
                        concepts.append(control)
                    applied.append(AppliedControl(control=control, source=source.kind))
        return Steering(
            Edits(
                np.array([control.feature for control in features], np.int64),
                np.array([control.gain for control in features], np.float32),
                np.array([control.strength for control in features], np.float32),
            ),
            np.array([self._catalogue.concept_rows[control.concept] for control in concepts], np.int64),
            np.array([control.strength for control in concepts], np.float32),
            tilts(attributes, self._items),
            applied,
        )

    def _know(self, serialized: bytes, kind: ControlSource) -> _FeatureControl | None:
        control = Control.FromString(serialized)
        stale = control.feature.bundle_version != self._version
        if not control.HasField("feature") or stale or any(self._check_control("", control)):
            return None
        return self._feature_control(control, kind)

    def _feature_control(self, control: Control, kind: ControlSource) -> _FeatureControl:
        feature, gain, strength = control.feature.id, _gain(control), _added(control)
        edit = FeatureEdit(feature_id=feature, label=self._catalogue.labels[feature], gain=gain, strength=strength)
        return _FeatureControl(AppliedControl(control=control, source=kind, edits=[edit]), feature, gain, strength)

    def _check_source(self, source: Source) -> Iterator[Violation]:
        if source.number > self._max_controls:
            yield Violation(source.path, f"{source.number} controls; at most {self._max_controls}")
        for index, (control, known) in enumerate(zip(source.controls, source.known, strict=True)):
            if known is None:
                yield from self._check_control(f"{source.path}[{index}]", control)

    def _check_control(self, path: str, control: Control) -> Iterator[Violation]:
        yield from self._check_target(path, control)
        yield from self._check_strength(path, control)

    def _check_target(self, path: str, control: Control) -> Iterator[Violation]:
        target = control.WhichOneof("target")
        if target is None:
            yield Violation(path, "names no feature, no concept and no attribute")
        if control.operation not in OPERATIONS:
            yield Violation(f"{path}.operation", "must be ADD, SET, SCALE or ABLATE")
        elif target in ADD_ONLY and control.operation != OPERATION_ADD:
            yield Violation(f"{path}.operation", f"{ADD_ONLY[target]} takes ADD only")
        if target == "concept":
            yield from self._check_concept(path, control)
        if target == "feature":
            yield from self._check_feature(f"{path}.feature", control)
        if target == "attribute":
            yield from check_attribute(f"{path}.attribute", control.attribute, self._items)

    def _check_concept(self, path: str, control: Control) -> Iterator[Violation]:
        if control.concept not in self._catalogue.concept_rows:
            hint = did_you_mean(control.concept, self._catalogue.concept_rows, "ListConcepts gives their names")
            yield Violation(f"{path}.concept", f"unknown concept {control.concept[:100]!r}; {hint}")

    def _check_feature(self, path: str, control: Control) -> Iterator[Violation]:
        feature = control.feature
        if not feature.bundle_version:
            yield Violation(
                f"{path}.bundle_version",
                "is empty: feature ids change at every training, so say which bundle the id was taken from"
                f" (ListFeatures gives it; this one is {self._version})",
            )
        elif feature.bundle_version == self._version:
            count = len(self._catalogue.features)
            if feature.id >= count:
                yield Violation(f"{path}.id", f"unknown feature {feature.id}; there are {count}, from 0")
            elif not self._catalogue.features[feature.id].scale:
                yield Violation(f"{path}.id", f"feature {feature.id} is dead (never active): it cannot be steered")

    def _check_strength(self, path: str, control: Control) -> Iterator[Violation]:
        strength, limit = control.strength, self._max_strength
        least = 0.0 if control.operation == OPERATION_SCALE else -limit
        if control.operation == OPERATION_ABLATE and strength != 0:
            yield Violation(f"{path}.strength", "ABLATE takes no strength")
        elif not least <= strength <= limit:  # nor is NaN
            yield Violation(f"{path}.strength", f"{strength:g} is not between {least:g} and {limit:g}")

    def check_version(self, path: str, version: str, feature: int) -> None:
        """Raises StaleFeature, with the likely replacement, unless `version` is the bundle's."""
        if version == self._version:
            return
        message = f"{path}: feature {feature} belongs to bundle {version[:64]}, this is {self._version}"
        metadata = {"field": path, "bundle_version": self._version}
        found = self._replacements.find(version, feature)
        if found is None:
            raise StaleFeature(f"{message}; ListFeatures gives the features of this one", metadata=metadata)
        label = self._catalogue.features[found].label[:100]
        metadata |= {"replacement_id": str(found), "replacement_label": label}
        raise StaleFeature(f"{message}; its likely replacement is feature {found}, {label!r}", metadata=metadata)


def _repeated_sets(sources: Iterable[Source]) -> Iterator[Violation]:
    first: dict[int, str] = {}
    for source in sources:
        for index, control in enumerate(source.controls):
            if control.operation == OPERATION_SET:
                path = f"{source.path}[{index}]"
                if (other := first.setdefault(control.feature.id, path)) != path:
                    yield Violation(path, f"a second SET on feature {control.feature.id}, beside {other}")


def _gain(control: Control) -> float:
    """DESIGN, "The mathematics": add (1, s), set (0, s), scale (g, 0), ablate (0, 0)."""
    if control.operation == OPERATION_SCALE:
        return control.strength
    return 1.0 if control.operation == OPERATION_ADD else 0.0


def _added(control: Control) -> float:
    """In units of the feature's scale."""
    return 0.0 if control.operation == OPERATION_SCALE else control.strength
