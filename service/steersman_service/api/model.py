"""ModelService: what is served."""

from importlib.metadata import version

from steersman.v1 import model_service_pb2 as pb
from steersman.v1.model_service_pb2_grpc import ModelServiceServicer
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.rpc.calls import Context
from steersman_service.sessions.store import REMEMBERED_IDS_PER_EVENT
from steersman_service.settings import Settings
from steersman_service.steering.eligibility import MAX_FILTER_ATTRIBUTES


class ModelService(ModelServiceServicer):
    def __init__(self, bundle: Bundle, items: Items, backend: str, device: str, settings: Settings) -> None:
        manifest = bundle.manifest
        self._info = pb.GetModelInfoResponse(
            server_version=version("steersman"),
            bundle_version=bundle.version,
            bundle_format=f"{manifest.format_major}.{manifest.format_minor}",
            bundle_created=manifest.created,
            data=manifest.provenance.data,
            backend=backend,
            device=device,
            shapes=_shapes(bundle),
            limits=_limits(settings),
            attributes=items.attributes,
            figures=manifest.figures,
        )

    async def GetModelInfo(self, request: pb.GetModelInfoRequest, context: Context) -> pb.GetModelInfoResponse:
        return self._info


def _shapes(bundle: Bundle) -> pb.Shapes:
    manifest = bundle.manifest
    return pb.Shapes(
        items=manifest.shape.items,
        hidden=manifest.shape.hidden,
        features=manifest.shape.features,
        active_features=manifest.autoencoder.active,
        window_length=manifest.window.length,
        window_stride=manifest.window.stride,
        hook_block=manifest.hook.block,
    )


def _limits(settings: Settings) -> pb.Limits:
    return pb.Limits(
        history_items=settings.max_history_items,
        controls=settings.max_controls,
        strength=settings.max_strength,
        k=settings.max_k,
        filter_items=settings.max_filter_items,
        events_per_append=settings.max_events_per_append,
        session_events=settings.max_session_events,
        remembered_event_ids=REMEMBERED_IDS_PER_EVENT * settings.max_session_events,
        filter_attributes=MAX_FILTER_ATTRIBUTES,
    )
