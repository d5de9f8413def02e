"""The controls of a request: read one by one, and checked together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from steersman.v1.control_pb2 import OPERATION_SET, Control, ControlSource
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.bundle.replacement import Replacements
from steersman_service.checks import MAX_VERSION_BYTES, check_bytes
from steersman_service.errors import ENOUGH_VIOLATIONS, FieldViolation, StaleFeature, raise_if_any
from steersman_service.steering.conflicts import Conflicts
from steersman_service.steering.control import ControlReader, ParsedControl
from steersman_service.steering.goals import MAX_GOALS
from steersman_service.steering.steering import Steering
from steersman_service.steering.targets import AIMED, Targets

# Parsed controls that are kept, since a user's come again with every request, and the largest of them: no sound feature control is larger.
CACHED_CONTROLS, CACHED_BYTES = 4096, 256
# The same of item sets and words, which take longer to solve.
CACHED_AIMS, CACHED_AIM_BYTES = 256, 1 << 15

Read = Callable[[bytes, ControlSource], ParsedControl]


class ParsedControls(NamedTuple):
    """The controls of one field of a request, or of a session."""

    path: str
    """How errors name them: "controls" or "session.controls"."""
    controls: Sequence[ParsedControl]
    violations: Sequence[FieldViolation]


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
        if not count:
            return ParsedControls(path, (), ())
        parsed: list[ParsedControl] = []
        violations: list[FieldViolation] = []
        cached = self._cached
        for control in controls:
            data = control.SerializeToString()
            read = cached if len(data) <= CACHED_BYTES else self._larger(control, len(data))
            parsed.append(one := read(data, source))
            if one.problems:
                here = f"{path}[{len(parsed) - 1}]"
                violations += [FieldViolation(f"{here}{field}", why) for field, why in one.problems]
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
        return Steering.of(parsed, self.catalogue, self.items)

    def at_strength(self, control: ParsedControl, strength: float) -> ParsedControl:
        """A control whose goal was solved, as if the caller had given this strength in place of the goal."""
        solved = Control()
        solved.CopyFrom(control.applied.control)
        solved.ClearField("goal")
        solved.strength = strength
        parsed = self._reader.read(solved.SerializeToString(), control.applied.source)
        del parsed.applied.warnings[:]
        parsed.applied.warnings.extend(control.applied.warnings)
        return parsed

    def forget(self) -> None:
        """What was parsed: the labels in it have changed."""
        for cached in ("_cached", "_cached_aims"):
            self.__dict__.pop(cached, None)

    def check_fresh(self, *parts: ParsedControls) -> None:
        """Raises StaleFeature for a feature of another bundle."""
        for path, controls, _ in parts:
            for index, control in enumerate(controls):
                if control.stale:
                    feature = control.applied.control.feature
                    self.check_version(f"{path}[{index}].feature.bundle_version", feature.bundle_version, feature.id)

    def check_version(self, path: str, version: str, feature: int) -> None:
        """Raises StaleFeature, with the likely replacement, unless `version` is the bundle's; InvalidRequest if it is no version at all."""
        if version == self.version:
            return
        raise_if_any(list(check_bytes(path, version, 0, MAX_VERSION_BYTES)))
        message = f"{path}: feature {feature} belongs to bundle {version[:64]}, this is {self.version}"
        metadata = {"field": path, "bundle_version": self.version}
        found = self.replacements.find(version, feature)
        if found is None:
            raise StaleFeature(f"{message}; ListFeatures gives the features of this one", metadata=metadata)
        label = self.catalogue.labels[found][:100]
        metadata |= {"replacement_id": str(found), "replacement_label": label}
        raise StaleFeature(f"{message}; its likely replacement is feature {found}, {label!r}", metadata=metadata)

    @cached_property
    def _reader(self) -> ControlReader:
        return ControlReader(self.version, self.catalogue, self.items, self.max_strength, self.targets)

    @cached_property
    def _cached(self) -> Read:
        return lru_cache(CACHED_CONTROLS)(self._reader.read)

    @cached_property
    def _cached_aims(self) -> Read:
        return lru_cache(CACHED_AIMS)(self._reader.read)

    @cached_property
    def _conflicts(self) -> Conflicts:
        return Conflicts(self.targets.aims)

    def _larger(self, control: Control, size: int) -> Read:
        """Of a control that is too large for the first cache."""
        aimed = size <= CACHED_AIM_BYTES and control.WhichOneof("target") in AIMED
        return self._cached_aims if aimed else self._reader.read

    def _warned(self, controls: list[ParsedControl], parts: Iterable[ParsedControls]) -> list[ParsedControl]:
        """The same, with warnings of those that undo or double an earlier one."""
        found = self._conflicts.find([control.direction for control in controls])
        if not found:
            return controls
        paths = [f"{path}[{index}]" for path, own, _ in parts for index in range(len(own))]
        warned = list(controls)
        for place, other, undoing in found:
            warned[place] = warned[place].copied() if warned[place] is controls[place] else warned[place]
            why = "ask for opposite things: they undo each other" if undoing else "ask for nearly the same: they double"
            warned[place].applied.warnings.append(f"{paths[place]} and {paths[other]} {why}")
        return warned


def violations(*parts: ParsedControls) -> Sequence[FieldViolation]:
    """What is wrong with controls, taken together; not all if there are very many."""
    own = [violation for part in parts for violation in part.violations][:ENOUGH_VIOLATIONS]
    return own or [*_repeated_sets(parts), *_too_many_goals(parts)]


def _repeated_sets(parts: Iterable[ParsedControls]) -> Sequence[FieldViolation]:
    first: dict[int, str] = {}
    repeated = []
    for path, controls, _ in parts:
        for index, control in enumerate(controls):
            if control.kind.operation == OPERATION_SET:
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
