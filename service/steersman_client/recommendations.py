"""Answers of Recommend and BatchRecommend, and lists beside each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from steersman.v1 import control_pb2
from steersman.v1 import recommendation_service_pb2 as pb
from steersman_client.catalogue import attributes_of
from steersman_client.controls import Control
from steersman_client.frames import DataFrame, frame_of

Source = Literal["", "request", "session", "scenario", "disliked"]
SOURCES: dict[int, Source] = {
    control_pb2.CONTROL_SOURCE_REQUEST: "request",
    control_pb2.CONTROL_SOURCE_SESSION: "session",
    control_pb2.CONTROL_SOURCE_SCENARIO: "scenario",
    control_pb2.CONTROL_SOURCE_DISLIKED: "disliked",
}
GoalStatus = Literal["", "reached", "not_reachable"]
GOALS: dict[int, GoalStatus] = {
    pb.GOAL_STATUS_REACHED: "reached",
    pb.GOAL_STATUS_NOT_REACHABLE: "not_reachable",
}
DEGRADATIONS = {
    pb.DEGRADATION_SESSION_UNAVAILABLE: "session_unavailable",
    pb.DEGRADATION_SESSION_BEHIND: "session_behind",
}


@dataclass(frozen=True)
class RecommendedItem:
    """An item of a list."""

    item_id: str
    title: str
    score: float
    """Logit: comparable within one answer only."""
    attributes: Mapping[str, tuple[str, ...] | float] = field(default_factory=dict, hash=False)
    """By name, where the request asks for the part "attributes"."""

    @classmethod
    def of(cls, item: pb.RecommendedItem) -> Self:
        return cls(item.item_id, item.title, item.score, attributes_of(item.attributes))


@dataclass(frozen=True)
class FeatureEdit:
    """z' = gain * z + strength * scale of one feature."""

    feature_id: int
    label: str
    gain: float
    strength: float
    """In units of the feature's natural maximum."""
    beyond_natural: bool
    control_strength: float
    """Of a control on the feature that does the same; 0 where gain is not 1."""

    @classmethod
    def of(cls, edit: control_pb2.FeatureEdit) -> Self:
        return cls(edit.feature_id, edit.label, edit.gain, edit.strength, edit.beyond_natural, edit.control_strength)


@dataclass(frozen=True)
class AppliedControl:
    """A control, and what it came down to."""

    control: Control
    source: Source
    edits: tuple[FeatureEdit, ...]
    """Strongest first. A tilt has none."""
    carried_confidence: float
    """Of a feature of an older bundle, 0 to 1; 0: not carried."""
    warnings: tuple[str, ...]
    display_name: str
    """For people: "Horror", "3 items"."""

    @classmethod
    def of(cls, applied: control_pb2.AppliedControl) -> Self:
        return cls(
            Control.of(applied.control),
            SOURCES.get(applied.source, ""),
            tuple(map(FeatureEdit.of, applied.edits)),
            applied.carried_confidence,
            tuple(applied.warnings),
            applied.display_name,
        )


@dataclass(frozen=True)
class ControlReceipt:
    """What became of one control."""

    requested_strength: float
    applied_strength: float
    share_before: float | None
    """Of the plain list, of what the control is about; None where it is about no set of items."""
    share_after: float | None
    goal: GoalStatus
    note: str

    @classmethod
    def of(cls, receipt: pb.ControlReceipt) -> Self:
        before = receipt.share_before if receipt.HasField("share_before") else None
        after = receipt.share_after if receipt.HasField("share_after") else None
        requested, applied = receipt.requested_strength, receipt.applied_strength
        return cls(requested, applied, before, after, GOALS.get(receipt.goal, ""), receipt.note)


@dataclass(frozen=True)
class SideEffect:
    """A share that moved, of something that no control is about."""

    attribute: str
    value: str
    share_before: float
    share_after: float

    @classmethod
    def of(cls, effect: pb.SideEffect) -> Self:
        return cls(effect.attribute, effect.value, effect.share_before, effect.share_after)


@dataclass(frozen=True)
class Receipt:
    """What steering did to a list, beside the same request without any control."""

    controls: tuple[ControlReceipt, ...]
    """In the order of `applied_controls`."""
    overlap: float
    divergence: float
    """In nats."""
    ndcg_kept_estimate: float | None
    side_effects: tuple[SideEffect, ...]

    @classmethod
    def of(cls, receipt: pb.Receipt) -> Self:
        kept = receipt.ndcg_kept_estimate if receipt.HasField("ndcg_kept_estimate") else None
        return cls(
            tuple(map(ControlReceipt.of, receipt.controls)),
            receipt.overlap,
            receipt.divergence,
            kept,
            tuple(map(SideEffect.of, receipt.side_effects)),
        )


@dataclass(frozen=True)
class HistoryUse:
    """What became of the history."""

    total_events: int
    used_events: int
    unknown_events: int
    empty: bool
    new_session: bool

    @classmethod
    def of(cls, use: pb.HistoryUse) -> Self:
        return cls(use.total_events, use.used_events, use.unknown_events, use.empty, use.new_session)


@dataclass(frozen=True)
class Timings:
    """Where the server's time went."""

    queue_ms: float
    inference_ms: float
    batch_size: int

    @classmethod
    def of(cls, timings: pb.Timings) -> Self:
        return cls(timings.queue_ms, timings.inference_ms, timings.batch_size)


@dataclass(frozen=True)
class Recommendation:
    """A list of items, best first, and how it came about."""

    items: tuple[RecommendedItem, ...]
    applied_controls: tuple[AppliedControl, ...]
    receipt: Receipt | None
    history_use: HistoryUse
    eligible_items: int
    unknown_filter_ids: int
    degradations: tuple[str, ...]
    composition_notes: tuple[str, ...]
    scenario_version: int
    session_version: int
    bundle_version: str
    request_id: str
    timings: Timings

    @property
    def item_ids(self) -> tuple[str, ...]:
        return tuple(item.item_id for item in self.items)

    def frame(self) -> DataFrame:
        """rank, item_id, title, score."""
        names = ("item_id", "title", "score")
        rows = ({name: getattr(item, name) for name in names} for item in self.items)
        return frame_of({"rank": rank, **row} for rank, row in enumerate(rows, 1))

    @classmethod
    def of(cls, response: pb.RecommendResponse) -> Self:
        return cls(
            items=tuple(map(RecommendedItem.of, response.items)),
            applied_controls=tuple(map(AppliedControl.of, response.applied_controls)),
            receipt=Receipt.of(response.receipt) if response.HasField("receipt") else None,
            history_use=HistoryUse.of(response.history_use),
            eligible_items=response.eligible_items,
            unknown_filter_ids=response.unknown_filter_ids,
            degradations=tuple(DEGRADATIONS.get(each, "unknown") for each in response.degradations),
            composition_notes=tuple(response.composition_notes),
            scenario_version=response.scenario_version,
            session_version=response.session_version,
            bundle_version=response.bundle_version,
            request_id=response.request_id,
            timings=Timings.of(response.timings),
        )


@dataclass(frozen=True)
class Moved:
    """An item that both lists have, at different ranks from 1."""

    item: RecommendedItem
    """As the steered list has it."""
    rank_before: int
    rank_after: int


@dataclass(frozen=True)
class Comparison:
    """A steered list beside the plain one: the same request without its controls."""

    plain: Recommendation
    steered: Recommendation

    @property
    def entered(self) -> tuple[RecommendedItem, ...]:
        before = set(self.plain.item_ids)
        return tuple(item for item in self.steered.items if item.item_id not in before)

    @property
    def left(self) -> tuple[RecommendedItem, ...]:
        after = set(self.steered.item_ids)
        return tuple(item for item in self.plain.items if item.item_id not in after)

    @property
    def moved(self) -> tuple[Moved, ...]:
        before = _ranks(self.plain)
        both = ((item, rank) for rank, item in enumerate(self.steered.items, 1) if item.item_id in before)
        moved = (Moved(item, before[item.item_id], rank) for item, rank in both)
        return tuple(each for each in moved if each.rank_before != each.rank_after)

    @property
    def overlap(self) -> float:
        """Share of the plain list's items that the steered one has; 1 if the plain one is empty."""
        return _overlap(self.plain, self.steered)

    def frame(self) -> DataFrame:
        """item_id, title, rank_before, rank_after (null where an item is not in the list)."""
        before, after = _ranks(self.plain), _ranks(self.steered)
        titles = {item.item_id: item.title for item in (*self.steered.items, *self.plain.items)}
        return frame_of(
            {"item_id": key, "title": title, "rank_before": before.get(key), "rank_after": after.get(key)}
            for key, title in titles.items()
        )


@dataclass(frozen=True)
class Sweep:
    """The same request at several strengths of one control."""

    plain: Recommendation
    strengths: tuple[float, ...]
    steered: tuple[Recommendation, ...]
    """One for each of `strengths`."""

    @property
    def overlaps(self) -> tuple[float, ...]:
        """Share of the plain list that each has."""
        return tuple(_overlap(self.plain, each) for each in self.steered)

    def frame(self) -> DataFrame:
        """strength, overlap, share (of what the control is about, null where it is about no set of items), rank, item_id, title, score."""
        lists = zip(self.strengths, self.overlaps, self.steered, strict=True)
        return frame_of(
            {"strength": strength, "overlap": overlap, "share": _share(each), "rank": rank, **vars(item)}
            for strength, overlap, each in lists
            for rank, item in enumerate(each.items, 1)
        )


def _share(recommendation: Recommendation) -> float | None:
    """Of what the last control, the swept one, is about."""
    receipt = recommendation.receipt
    return receipt.controls[-1].share_after if receipt and receipt.controls else None


def _ranks(recommendation: Recommendation) -> dict[str, int]:
    return {item_id: rank for rank, item_id in enumerate(recommendation.item_ids, 1)}


def _overlap(plain: Recommendation, steered: Recommendation) -> float:
    ids = plain.item_ids
    return len({*ids} & {*steered.item_ids}) / len(ids) if ids else 1.0
