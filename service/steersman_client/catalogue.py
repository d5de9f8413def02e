"""What can be steered, and what can be recommended: features, concepts, neighbours, items, attributes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self

from steersman.v1 import feature_service_pb2 as pb
from steersman.v1 import item_service_pb2 as items_pb

FeatureKind = Literal["", "discovered", "anchored"]
FEATURE_KINDS: dict[FeatureKind, pb.FeatureKind] = {
    "": pb.FEATURE_KIND_UNSPECIFIED,
    "discovered": pb.FEATURE_KIND_DISCOVERED,
    "anchored": pb.FEATURE_KIND_ANCHORED,
}
KIND_NAMES: dict[int, FeatureKind] = {number: name for name, number in FEATURE_KINDS.items()}


@dataclass(frozen=True)
class Association:
    """How well a feature tells items with an attribute value from others, on held-out events."""

    attribute: str
    value: str
    correlation: float
    roc_auc: float
    neuron_correlation: float
    neuron_roc_auc: float

    @classmethod
    def of(cls, message: pb.Association) -> Self:
        return cls(
            message.attribute,
            message.value,
            message.correlation,
            message.roc_auc,
            message.neuron_correlation,
            message.neuron_roc_auc,
        )


@dataclass(frozen=True)
class Effect:
    """What strength 1 did to the top 10, measured on validation users."""

    share_before: float
    share_after: float
    ndcg_kept: float

    @classmethod
    def of(cls, message: pb.Effect) -> Self:
        return cls(message.share_before, message.share_after, message.ndcg_kept)


@dataclass(frozen=True)
class EffectPoint:
    """What a control did to the top 10 at one strength, measured on validation users."""

    strength: float
    share: float
    """As `Effect.share_after`."""
    ndcg_kept: float

    @classmethod
    def of(cls, message: pb.EffectPoint) -> Self:
        return cls(message.strength, message.share, message.ndcg_kept)


@dataclass(frozen=True)
class LabelCorrection:
    """Who corrected a label, and what it was before."""

    automatic_label: str
    author: str
    time: datetime
    carried_confidence: float
    """How alike this feature and the corrected one of another bundle are, 0 to 1; 0: it was made on this one."""

    @classmethod
    def of(cls, message: pb.LabelCorrection) -> Self:
        return cls(message.automatic_label, message.author, message.time.ToDatetime(UTC), message.carried_confidence)


@dataclass(frozen=True)
class Feature:
    """A feature of the catalogue. `feature(this, 0.5)` steers it."""

    id: int
    label: str
    label_confidence: float
    steerable: bool
    clear: bool
    kind: FeatureKind
    density: float
    """Share of events at which it is active."""
    scale: float
    """What strength 1 adds to the activation."""
    unit_up: float
    """How many times its natural maximum a control's strength of 1 is."""
    unit_down: float
    push_up: float
    push_down: float
    """The same of -1."""
    association: Association | None
    effect: Effect | None
    curve: tuple[EffectPoint, ...]
    """By strength, from the least; empty where it was not measured."""
    top_item_ids: tuple[str, ...]
    top_item_titles: tuple[str, ...]
    correction: LabelCorrection | None
    """Of the label. None: it is the automatic one."""
    bundle_version: str

    @classmethod
    def of(cls, message: pb.Feature, bundle_version: str) -> Self:
        return cls(
            id=message.id,
            label=message.label,
            label_confidence=message.label_confidence,
            steerable=message.steerable,
            clear=message.clear,
            kind=KIND_NAMES.get(message.kind, ""),
            density=message.density,
            scale=message.scale,
            unit_up=message.unit_up,
            unit_down=message.unit_down,
            push_up=message.push_up,
            push_down=message.push_down,
            association=Association.of(message.association) if message.HasField("association") else None,
            effect=Effect.of(message.effect) if message.HasField("effect") else None,
            curve=tuple(map(EffectPoint.of, message.curve)),
            top_item_ids=tuple(message.top_item_ids),
            top_item_titles=tuple(message.top_item_titles),
            correction=LabelCorrection.of(message.correction) if message.HasField("correction") else None,
            bundle_version=bundle_version,
        )


@dataclass(frozen=True)
class ConceptTerm:
    """A feature that a concept comes down to, and its mean strength at strength 1."""

    feature_id: int
    weight: float

    @classmethod
    def of(cls, message: pb.ConceptTerm) -> Self:
        return cls(message.feature_id, message.weight)


@dataclass(frozen=True)
class Concept:
    """A concept of the catalogue. `concept(this.name, 0.5)` steers it."""

    name: str
    display_name: str
    attribute: str
    value: str
    """Empty for a numeric attribute."""
    terms: tuple[ConceptTerm, ...]
    effect: Effect | None
    curve: tuple[EffectPoint, ...]
    """By strength, from the least; empty where it was not measured."""
    strength: float
    """How strong its strongest feature has to be at strength 1, on average: 1 is its natural maximum."""
    strength_95: float
    beyond_natural: bool
    unit_up: float
    unit_down: float
    push_up: float
    push_down: float

    @classmethod
    def of(cls, message: pb.Concept) -> Self:
        return cls(
            name=message.name,
            display_name=message.display_name,
            attribute=message.attribute,
            value=message.value,
            terms=tuple(map(ConceptTerm.of, message.terms)),
            effect=Effect.of(message.effect) if message.HasField("effect") else None,
            curve=tuple(map(EffectPoint.of, message.curve)),
            strength=message.strength,
            strength_95=message.strength_95,
            beyond_natural=message.beyond_natural,
            unit_up=message.unit_up,
            unit_down=message.unit_down,
            push_up=message.push_up,
            push_down=message.push_down,
        )


@dataclass(frozen=True)
class Neighbour:
    """A feature (`concept` is empty) or a concept (`feature_id` is None)."""

    feature_id: int | None
    concept: str
    label: str
    likeness: float
    """Correlation of what both add to scores, -1 to 1."""

    @classmethod
    def of(cls, message: pb.Neighbour) -> Self:
        feature_id = message.feature_id if message.WhichOneof("of") == "feature_id" else None
        return cls(feature_id, message.concept, message.label, message.likeness)


@dataclass(frozen=True)
class Neighbours:
    """What is like a control, and what is opposed to it."""

    alike: tuple[Neighbour, ...]
    """Most alike first: together they double."""
    opposed: tuple[Neighbour, ...]
    """Most opposed first: together they undo each other."""
    bundle_version: str

    @classmethod
    def of(cls, message: pb.ListNeighboursResponse) -> Self:
        alike, opposed = tuple(map(Neighbour.of, message.alike)), tuple(map(Neighbour.of, message.opposed))
        return cls(alike, opposed, message.bundle_version)


@dataclass(frozen=True)
class Item:
    """An item that can be recommended."""

    item_id: str
    title: str
    attributes: Mapping[str, tuple[str, ...] | float]
    """By name, those of which something is known: values, or a number."""

    @classmethod
    def of(cls, message: items_pb.Item) -> Self:
        return cls(message.item_id, message.title, attributes_of(message.attributes))


def attributes_of(known: Iterable[items_pb.ItemAttribute]) -> dict[str, tuple[str, ...] | float]:
    return {each.name: each.number if each.HasField("number") else tuple(each.values) for each in known}


@dataclass(frozen=True)
class Attribute:
    """An attribute of items."""

    name: str
    values: Mapping[str, int]
    """Of a categorical one, value -> items that have it, most frequent first; not all if there are many."""
    total_values: int
    items: int
    """Of which it is known."""
    least: float | None
    """Of a numeric one."""
    most: float | None
    mean: float | None

    @classmethod
    def of(cls, message: items_pb.Attribute) -> Self:
        values = {each.value: each.items for each in message.values}
        least, most, mean = (
            float(getattr(message, name)) if message.HasField(name) else None for name in ("least", "most", "mean")
        )
        return cls(message.name, values, message.total_values, message.items, least, most, mean)
