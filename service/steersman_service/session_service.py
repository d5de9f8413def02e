"""SessionService: keeps what a user did and how they steer."""

from collections.abc import Iterator
from dataclasses import dataclass

from steersman.v1 import session_service_pb2 as pb
from steersman.v1.control_pb2 import CONTROL_SOURCE_SESSION, Control
from steersman.v1.session_service_pb2_grpc import SessionServiceServicer
from steersman_service.calls import Context
from steersman_service.checks import MAX_EVENT_ID_BYTES, MAX_ITEM_ID_BYTES, check_bytes, check_session_id
from steersman_service.controls import ControlReader, Source
from steersman_service.errors import NotFound, Violation, raise_if_any
from steersman_service.sessions import SessionStore


@dataclass(frozen=True)
class SessionService(SessionServiceServicer):
    store: SessionStore
    controls: ControlReader
    max_events_per_append: int

    async def AppendEvents(self, request: pb.AppendEventsRequest, context: Context) -> pb.AppendEventsResponse:
        raise_if_any([*check_session_id(request.session_id), *self._check_events(request)])
        events = [(event.event_id, event.item_id) for event in request.events]
        outcome = await self.store.append(request.session_id, events)
        return pb.AppendEventsResponse(
            appended=outcome.appended,
            duplicates=outcome.duplicates,
            session_version=outcome.version,
            total_events=outcome.total_events,
        )

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        raise_if_any(list(check_session_id(request.session_id)))
        state = await self.store.get(request.session_id)
        if state is None:
            raise NotFound(f"session_id: there is no session {request.session_id!r}")
        session = pb.Session(
            session_id=request.session_id,
            version=state.version,
            total_events=state.total_events,
            item_ids=state.item_ids,
            controls=map(Control.FromString, state.controls),
        )
        session.time_to_live.FromNanoseconds(int(state.ttl_seconds * 1e9))
        return pb.GetSessionResponse(session=session)

    async def SetControls(self, request: pb.SetControlsRequest, context: Context) -> pb.SetControlsResponse:
        source = Source("controls", CONTROL_SOURCE_SESSION, request.controls)
        raise_if_any([*check_session_id(request.session_id), *self.controls.check(source)])
        self.controls.read(source)
        kept = [control.SerializeToString() for control in request.controls]
        return pb.SetControlsResponse(session_version=await self.store.set_controls(request.session_id, kept))

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: Context) -> pb.DeleteSessionResponse:
        raise_if_any(list(check_session_id(request.session_id)))
        return pb.DeleteSessionResponse(existed=await self.store.delete(request.session_id))

    def _check_events(self, request: pb.AppendEventsRequest) -> Iterator[Violation]:
        count, limit = len(request.events), self.max_events_per_append
        if not 1 <= count <= limit:
            yield Violation("events", f"{count} events; 1 to {limit} are allowed")
            return
        for index, event in enumerate(request.events):
            yield from check_bytes(f"events[{index}].event_id", event.event_id, 1, MAX_EVENT_ID_BYTES)
            yield from check_bytes(f"events[{index}].item_id", event.item_id, 1, MAX_ITEM_ID_BYTES)
