"""Answers of ModelService."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from steersman.v1 import model_service_pb2 as pb


@dataclass(frozen=True)
class Shapes:
    """Sizes of the model."""

    items: int
    hidden: int
    features: int
    active_features: int
    window_length: int
    window_stride: int
    hook_block: int

    @classmethod
    def of(cls, shapes: pb.Shapes) -> Self:
        return cls(
            shapes.items,
            shapes.hidden,
            shapes.features,
            shapes.active_features,
            shapes.window_length,
            shapes.window_stride,
            shapes.hook_block,
        )


@dataclass(frozen=True)
class Limits:
    """The largest values that the server takes; 0: it does not say."""

    history_items: int
    controls: int
    strength: float
    k: int
    filter_items: int
    filter_attributes: int
    events_per_append: int
    session_events: int
    remembered_event_ids: int
    batch_requests: int
    set_items: int
    goals: int
    scenarios: int
    scenario_bytes: int

    @classmethod
    def of(cls, limits: pb.Limits) -> Self:
        return cls(
            history_items=limits.history_items,
            controls=limits.controls,
            strength=limits.strength,
            k=limits.k,
            filter_items=limits.filter_items,
            filter_attributes=limits.filter_attributes,
            events_per_append=limits.events_per_append,
            session_events=limits.session_events,
            remembered_event_ids=limits.remembered_event_ids,
            batch_requests=limits.batch_requests,
            set_items=limits.set_items,
            goals=limits.goals,
            scenarios=limits.scenarios,
            scenario_bytes=limits.scenario_bytes,
        )


@dataclass(frozen=True)
class BundleSummary:
    """A bundle in the folder of the one that is served."""

    version: str
    format: str
    created: str
    """RFC 3339."""
    data: str
    figures: Mapping[str, float]
    served: bool
    steerable_features: int
    carried_features: int
    """Of those: the ones that the served bundle has a counterpart of."""
    median_confidence: float

    @classmethod
    def of(cls, message: pb.BundleSummary) -> Self:
        return cls(
            version=message.version,
            format=message.format,
            created=message.created,
            data=message.data,
            figures=dict(message.figures),
            served=message.served,
            steerable_features=message.steerable_features,
            carried_features=message.carried_features,
            median_confidence=message.median_confidence,
        )


@dataclass(frozen=True)
class ModelInfo:
    """What is served."""

    server_version: str
    bundle_version: str
    bundle_format: str
    bundle_created: str
    """RFC 3339."""
    data: str
    backend: str
    device: str
    shapes: Shapes
    limits: Limits
    attributes: tuple[str, ...]
    """Names that filters and tilts take."""
    figures: Mapping[str, float]
    """Of the bundle's evaluation: "test.ndcg_at_10"."""

    @classmethod
    def of(cls, message: pb.GetModelInfoResponse) -> Self:
        return cls(
            server_version=message.server_version,
            bundle_version=message.bundle_version,
            bundle_format=message.bundle_format,
            bundle_created=message.bundle_created,
            data=message.data,
            backend=message.backend,
            device=message.device,
            shapes=Shapes.of(message.shapes),
            limits=Limits.of(message.limits),
            attributes=tuple(message.attributes),
            figures=dict(message.figures),
        )


@dataclass(frozen=True)
class SampleHistory:
    """Of a real user, kept in the bundle without a name: `recommend(this.item_ids, events_before=this.events_before)`."""

    name: str
    """Its number in the bundle, from 1."""
    item_ids: tuple[str, ...]
    """Oldest first."""
    events_before: int
    latest_titles: tuple[str, ...]
    """Of its latest five items, the latest first."""

    @classmethod
    def of(cls, message: pb.SampleHistory) -> Self:
        history = message.history
        return cls(message.name, tuple(history.item_ids), history.events_before, tuple(message.latest_titles))
