"""Answers of Explain: what the model sees, what each score is made of, and what would change the list."""

from dataclasses import dataclass
from typing import Literal, Self

from steersman.v1 import explanation_service_pb2 as pb
from steersman_client.controls import Control
from steersman_client.frames import DataFrame, frame_of
from steersman_client.recommendations import Recommendation, RecommendedItem


@dataclass(frozen=True)
class ChangeQuery:
    """What would bring an item into the list, or take it off: by one of these."""

    item_id: str
    control: Control | None = None
    """The least strength of this control, in the direction of its strength's sign (0: both)."""
    any_control: bool = False
    """The cheapest single control."""
    events: bool = False
    """The events of the history that would have to go."""

    def message(self) -> pb.ChangeQuery:
        query = pb.ChangeQuery(item_id=self.item_id)
        if self.control is not None:
            query.control.CopyFrom(self.control.message())
        if self.any_control:
            query.any_control = True
        if self.events:
            query.events = True
        return query


@dataclass(frozen=True)
class EventInfluence:
    """What an event of the window does to a feature."""

    place: int
    """In the window, from 0."""
    item_id: str
    title: str
    activation_change: float

    @classmethod
    def of(cls, message: pb.EventInfluence) -> Self:
        return cls(message.place, message.item_id, message.title, message.activation_change)


@dataclass(frozen=True)
class ActiveFeature:
    """A feature that is active now."""

    feature_id: int
    label: str
    activation: float
    """In units of its natural maximum."""
    spread_share: float
    """Share of the spread of scores that it accounts for."""
    events: tuple[EventInfluence, ...]

    @classmethod
    def of(cls, message: pb.ActiveFeature) -> Self:
        events = tuple(map(EventInfluence.of, message.events))
        return cls(message.feature_id, message.label, message.activation, message.spread_share, events)


@dataclass(frozen=True)
class Taste:
    """What the model sees in a history, before any control."""

    features: tuple[ActiveFeature, ...]
    """The largest share first."""
    unexplained_share: float

    def frame(self) -> DataFrame:
        """feature_id, label, activation, spread_share."""
        names = ("feature_id", "label", "activation", "spread_share")
        return frame_of({name: getattr(each, name) for name in names} for each in self.features)

    @classmethod
    def of(cls, message: pb.Taste) -> Self:
        return cls(tuple(map(ActiveFeature.of, message.features)), message.unexplained_share)


@dataclass(frozen=True)
class Contribution:
    """What a feature adds to a score."""

    feature_id: int
    label: str
    amount: float

    @classmethod
    def of(cls, message: pb.Contribution) -> Self:
        return cls(message.feature_id, message.label, message.amount)


@dataclass(frozen=True)
class Account:
    """What a score is made of: features + other_features + unexplained + bias + controls = score."""

    item_id: str
    title: str
    rank: int
    """From 1; 0: not in the list."""
    score: float
    features: tuple[Contribution, ...]
    other_features: float
    unexplained: float
    bias: float
    controls: tuple[float, ...]
    """One for each applied control, in their order."""

    @property
    def parts(self) -> tuple[tuple[str, float], ...]:
        """Names, each once, and amounts; they sum to the score."""
        features = ((f"{each.label} (f{each.feature_id})", each.amount) for each in self.features)
        controls = ((f"control {number}", amount) for number, amount in enumerate(self.controls, 1))
        rest = (("other features", self.other_features), ("unexplained", self.unexplained), ("bias", self.bias))
        return (*features, *rest, *controls)

    @classmethod
    def of(cls, message: pb.Account) -> Self:
        return cls(
            item_id=message.item_id,
            title=message.title,
            rank=message.rank,
            score=message.score,
            features=tuple(map(Contribution.of, message.features)),
            other_features=message.other_features,
            unexplained=message.unexplained,
            bias=message.bias,
            controls=tuple(message.controls),
        )


@dataclass(frozen=True)
class Change:
    """What would change the list, checked by computing that list."""

    status: Literal["found", "not_found"]
    was_in_list: bool
    control: Control | None
    event_places: tuple[int, ...]
    event_item_ids: tuple[str, ...]
    overlap: float
    """Share of the present list that is in the changed one."""
    items: tuple[RecommendedItem, ...]
    """The changed list."""

    @classmethod
    def of(cls, message: pb.Change) -> Self:
        return cls(
            status="found" if message.status == pb.CHANGE_STATUS_FOUND else "not_found",
            was_in_list=message.was_in_list,
            control=Control.of(message.control) if message.HasField("control") else None,
            event_places=tuple(message.event_places),
            event_item_ids=tuple(message.event_item_ids),
            overlap=message.overlap,
            items=tuple(map(RecommendedItem.of, message.items)),
        )


@dataclass(frozen=True)
class Explanation:
    """A list, with what it is made of."""

    recommendation: Recommendation
    taste: Taste
    accounts: tuple[Account, ...]
    """Of the list's items in their order, then of those that were asked for."""
    change: Change | None
    method: str
    """ "exact", or "path" where the hook is below the last block."""

    def frame(self) -> DataFrame:
        """item_id, title, rank, score, part, amount: the amounts of an item sum to its score."""
        return frame_of(
            {"item_id": each.item_id, "title": each.title, "rank": each.rank, "score": each.score}
            | {"part": part, "amount": amount}
            for each in self.accounts
            for part, amount in each.parts
        )

    @classmethod
    def of(cls, message: pb.ExplainResponse) -> Self:
        return cls(
            Recommendation.of(message.recommendation),
            Taste.of(message.taste),
            tuple(map(Account.of, message.accounts)),
            Change.of(message.change) if message.HasField("change") else None,
            message.method,
        )
