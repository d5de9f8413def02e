"""Named sets of controls, filters and composition, and who changed them."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Literal, Self

from google.protobuf.timestamp_pb2 import Timestamp

from steersman.v1 import scenario_service_pb2 as pb
from steersman_client.controls import AttributeTarget, Control, Controls, messages_of, put_target
from steersman_client.requests import Composition, Filters


@dataclass(frozen=True)
class PolicyRule:
    """Controls that requests may add: one of these kinds."""

    concept: str = ""
    """A name, or its beginning with "*" at the end."""
    _: KW_ONLY
    attribute: AttributeTarget | None = None
    """Empty parts fit everything."""
    any_feature: bool = False
    any_items_or_words: bool = False
    most_strength: float = 0.0
    """0: the server's limit."""

    def message(self) -> pb.PolicyRule:
        rule = pb.PolicyRule(most_strength=self.most_strength)
        if self.attribute is not None:
            put_target(rule, self.attribute)
        elif self.any_feature:
            rule.any_feature = True
        elif self.any_items_or_words:
            rule.any_items_or_words = True
        else:
            rule.concept = self.concept
        return rule

    @classmethod
    def of(cls, rule: pb.PolicyRule) -> Self:
        attribute = AttributeTarget(rule.attribute.name, rule.attribute.value) if rule.HasField("attribute") else None
        return cls(
            rule.concept,
            attribute=attribute,
            any_feature=rule.any_feature,
            any_items_or_words=rule.any_items_or_words,
            most_strength=rule.most_strength,
        )


@dataclass(frozen=True)
class Scenario:
    """What a placement ("home-second-row") is asked with. Put it again with the version that you have seen."""

    name: str
    _: KW_ONLY
    version: int = 0
    """0: it does not exist yet."""
    description: str = ""
    controls: Controls = ()
    filters: Filters = field(default_factory=Filters)
    composition: Composition = field(default_factory=Composition)
    policy: Sequence[PolicyRule] | None = None
    """Rules of which a control that a request adds must fit one; none fits an empty list. None: any control may be added."""
    updated: datetime | None = None
    updated_by: str = ""

    def message(self) -> pb.Scenario:
        policy = None if self.policy is None else pb.Policy(rules=[rule.message() for rule in self.policy])
        return pb.Scenario(
            name=self.name,
            version=self.version,
            description=self.description,
            controls=messages_of(self.controls),
            filters=self.filters.message(),
            composition=self.composition.message(),
            policy=policy,
        )

    @classmethod
    def of(cls, message: pb.Scenario) -> Self:
        return cls(
            message.name,
            version=message.version,
            description=message.description,
            controls=tuple(map(Control.of, message.controls)),
            filters=Filters.of(message.filters),
            composition=Composition.of(message.composition),
            policy=tuple(map(PolicyRule.of, message.policy.rules)) if message.HasField("policy") else None,
            updated=_time(message.updated) if message.HasField("updated") else None,
            updated_by=message.updated_by,
        )


@dataclass(frozen=True)
class ScenarioChange:
    """An entry of the audit trail."""

    name: str
    action: Literal["put", "delete"]
    version: int
    time: datetime
    author: str
    scenario: Scenario | None
    """As it was after the change; None after a deletion."""

    @classmethod
    def of(cls, message: pb.ScenarioChange) -> Self:
        return cls(
            message.name,
            "delete" if message.action == pb.SCENARIO_ACTION_DELETE else "put",
            message.version,
            _time(message.time),
            message.author,
            Scenario.of(message.scenario) if message.HasField("scenario") else None,
        )


@dataclass(frozen=True)
class ReplayedEffect:
    """One effect of a scenario on lists of ten: a mean over histories, from 0 to 1."""

    name: str
    """ "overlap" with the list under its filters alone; "share of genres:Horror" in its list."""
    before: float
    """With the bundle under which it was put."""
    least: float
    most: float
    """The interval in which it is to stay."""
    now: float
    """With the bundle that is served."""
    outside: bool

    @classmethod
    def of(cls, message: pb.ReplayedEffect) -> Self:
        return cls(message.name, message.before, message.least, message.most, message.now, message.outside)


ReplayStatus = Literal["", "held", "moved", "broken", "nothing_to_compare"]
REPLAY_STATUSES: dict[int, ReplayStatus] = {
    pb.REPLAY_STATUS_HELD: "held",
    pb.REPLAY_STATUS_MOVED: "moved",
    pb.REPLAY_STATUS_BROKEN: "broken",
    pb.REPLAY_STATUS_NOTHING_TO_COMPARE: "nothing_to_compare",
}


@dataclass(frozen=True)
class ScenarioReplay:
    """What a scenario does with the bundle that is served, beside the one under which it was put."""

    name: str
    version: int
    status: ReplayStatus
    """ "held": every effect lies in its interval; "moved": one does not; "broken": it cannot be applied any more; "nothing_to_compare": it
    was put under this bundle, or nothing was measured then. Empty: one that this client does not know."""
    bundle_version_before: str
    histories: int
    """On which the effects are measured; 0: nothing was."""
    effects: tuple[ReplayedEffect, ...]
    problem: str
    """Why it is broken; begins with the field."""

    @classmethod
    def of(cls, message: pb.ScenarioReplay) -> Self:
        return cls(
            message.name,
            message.version,
            REPLAY_STATUSES.get(message.status, ""),
            message.bundle_version_before,
            message.histories,
            tuple(map(ReplayedEffect.of, message.effects)),
            message.problem,
        )


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
