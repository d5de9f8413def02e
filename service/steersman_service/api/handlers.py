"""The handlers of every service, for one release."""

from dataclasses import dataclass
from typing import NamedTuple

from steersman_service.api.explanation import ExplanationService
from steersman_service.api.features import FeatureService
from steersman_service.api.items import ItemService
from steersman_service.api.labels import Labels
from steersman_service.api.list_change import ListChange
from steersman_service.api.model import ModelService
from steersman_service.api.placement import Placements
from steersman_service.api.recommendation import RecommendationService
from steersman_service.api.release import Release
from steersman_service.api.releases import ReleaseControl, ReleaseService
from steersman_service.api.replaying import ScenarioReplays
from steersman_service.api.scenarios import ScenarioService
from steersman_service.api.sessions import SessionService
from steersman_service.bundle.bundle import Bundle
from steersman_service.scheduling.client import Engines
from steersman_service.sessions.labels import LabelStore
from steersman_service.sessions.reader import SessionReader
from steersman_service.sessions.scenarios import ScenarioReader, ScenarioStore
from steersman_service.sessions.store import SessionStore
from steersman_service.settings import Settings
from steersman_service.telemetry.metrics import Metrics

SERVICES = (
    "RecommendationService",
    "SessionService",
    "ExplanationService",
    "ScenarioService",
    "FeatureService",
    "ItemService",
    "ModelService",
    "ReleaseService",
)


class EngineHandle(NamedTuple):
    """What answers requests of a bundle."""

    bundle: Bundle
    engines: Engines
    name: str
    """ "onnx" or "torch"."""
    device: str
    """ "cpu" or "cuda"."""


@dataclass(frozen=True)
class Shared:
    """What the releases of a front end share."""

    settings: Settings
    metrics: Metrics
    store: SessionStore
    labels: LabelStore
    scenarios: ScenarioStore
    placed: ScenarioReader
    control: ReleaseControl

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics, store: SessionStore, control: ReleaseControl) -> "Shared":
        scenarios = ScenarioStore(store)
        placed = ScenarioReader(scenarios, metrics.scenario_read)
        return cls(settings, metrics, store, LabelStore(store), scenarios, placed, control)


class Handlers(NamedTuple):
    """Those of one release, and what runs beside them."""

    services: dict[str, object]
    """By name. They know no transport."""
    labels: Labels
    replays: ScenarioReplays
    sessions: SessionReader
    list_change: ListChange


def handlers(release: Release, backend: EngineHandle, shared: Shared) -> Handlers:
    """`release` is that of the bundle of `backend`."""
    settings, metrics, engines = shared.settings, shared.metrics, backend.engines
    sessions = SessionReader(
        shared.store,
        release.items,
        max_events=settings.max_session_events,
        limit_bytes=settings.session_cache_mb << 20,
        observe=metrics.session_read,
    )
    labels = Labels(release, shared.labels)
    replays = ScenarioReplays(release, engines, shared.scenarios, settings.max_filter_items)
    placements = Placements(release, shared.placed, settings.max_filter_items)
    list_change = ListChange(engines, settings.list_change_sample, metrics.list_change)
    recommendation = RecommendationService(release, engines, sessions, settings, metrics, list_change, placements)
    services: dict[str, object] = {
        "RecommendationService": recommendation,
        "ExplanationService": ExplanationService(recommendation),
        "ScenarioService": ScenarioService(release, shared.scenarios, shared.placed, settings, replays),
        "SessionService": SessionService(release, shared.store, settings.max_events_per_append),
        "FeatureService": FeatureService(release, labels, settings.max_message_bytes),
        "ItemService": ItemService(release, settings.max_message_bytes),
        "ModelService": ModelService(release, backend.name, backend.device, settings),
        "ReleaseService": ReleaseService(shared.control),
    }
    return Handlers(services, labels, replays, sessions, list_change)
