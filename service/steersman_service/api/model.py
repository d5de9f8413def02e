"""ModelService: what is served."""

from importlib.metadata import version

from steersman.v1 import model_service_pb2 as pb
from steersman_service.api.bundles import BundleList
from steersman_service.api.caller import Caller
from steersman_service.api.histories import HistoryPages
from steersman_service.api.release import Release
from steersman_service.api.scenarios import MAX_SCENARIO_BYTES
from steersman_service.sessions.scenarios import MAX_SCENARIOS
from steersman_service.sessions.store import REMEMBERED_IDS_PER_EVENT
from steersman_service.settings import Settings
from steersman_service.steering.eligibility import MAX_FILTER_ATTRIBUTES
from steersman_service.steering.goals import MAX_GOALS
from steersman_service.steering.targets import MAX_SET_ITEMS


class ModelService:
    def __init__(self, release: Release, backend: str, device: str, settings: Settings) -> None:
        manifest = release.bundle.manifest
        self._histories = HistoryPages(release, settings.max_message_bytes)
        self._bundles = BundleList(release)
        shapes = pb.Shapes(
            items=manifest.shape.items,
            hidden=manifest.shape.hidden,
            features=manifest.shape.features,
            active_features=manifest.autoencoder.active,
            window_length=manifest.window.length,
            window_stride=manifest.window.stride,
            hook_block=manifest.hook.block,
        )
        limits = pb.Limits(
            history_items=settings.max_history_items,
            controls=settings.max_controls,
            strength=settings.max_strength,
            k=settings.max_k,
            filter_items=settings.max_filter_items,
            events_per_append=settings.max_events_per_append,
            session_events=settings.max_session_events,
            remembered_event_ids=REMEMBERED_IDS_PER_EVENT * settings.max_session_events,
            filter_attributes=MAX_FILTER_ATTRIBUTES,
            batch_requests=settings.max_batch_requests,
            set_items=min(settings.max_filter_items, MAX_SET_ITEMS),
            goals=MAX_GOALS,
            scenarios=MAX_SCENARIOS,
            scenario_bytes=MAX_SCENARIO_BYTES,
        )
        self._info = pb.GetModelInfoResponse(
            server_version=version("steersman"),
            bundle_version=release.version,
            bundle_format=f"{manifest.format_major}.{manifest.format_minor}",
            bundle_created=manifest.created,
            data=manifest.provenance.data,
            backend=backend,
            device=device,
            shapes=shapes,
            limits=limits,
            attributes=release.items.attributes,
            figures=manifest.figures,
        )

    async def GetModelInfo(self, request: pb.GetModelInfoRequest, caller: Caller) -> pb.GetModelInfoResponse:
        return self._info

    async def ListHistories(self, request: pb.ListHistoriesRequest, caller: Caller) -> pb.ListHistoriesResponse:
        return self._histories.page(request)

    async def ListBundles(self, request: pb.ListBundlesRequest, caller: Caller) -> pb.ListBundlesResponse:
        return pb.ListBundlesResponse(bundles=await self._bundles.read())
