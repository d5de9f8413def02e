"""SessionService: keeps what a user did and how they steer."""

from dataclasses import dataclass

from steersman.v1 import session_service_pb2 as pb
from steersman.v1.control_pb2 import CONTROL_SOURCE_SESSION
from steersman_service.api.caller import Caller
from steersman_service.api.release import Release
from steersman_service.checks import check_events, check_session_id
from steersman_service.errors import NotFound, raise_if_any
from steersman_service.sessions.events import DISLIKED, HIDDEN, kinds_of
from steersman_service.sessions.store import SessionStore
from steersman_service.steering.controls import violations


@dataclass(frozen=True)
class SessionService:
    release: Release
    store: SessionStore
    max_events_per_append: int

    async def AppendEvents(self, request: pb.AppendEventsRequest, caller: Caller) -> pb.AppendEventsResponse:
        wrong_events = check_events("events", request.events, self.max_events_per_append)
        raise_if_any([*check_session_id(request.session_id), *wrong_events])
        events = [(event.event_id, event.item_id) for event in request.events]
        outcome = await self.store.append(caller.session_key(request.session_id), events, kinds_of(request.events))
        return pb.AppendEventsResponse(
            appended=outcome.appended,
            duplicates=outcome.duplicates,
            session_version=outcome.version,
            total_events=outcome.total_events,
        )

    async def GetSession(self, request: pb.GetSessionRequest, caller: Caller) -> pb.GetSessionResponse:
        raise_if_any(list(check_session_id(request.session_id)))
        state = await self.store.get(caller.session_key(request.session_id))
        if state is None:
            raise NotFound(f"session_id: there is no session {request.session_id!r}")
        session = pb.Session(
            session_id=request.session_id,
            version=state.version,
            total_events=state.total_events,
            item_ids=state.item_ids[-request.max_item_ids :],
            controls=state.parsed_controls(request.session_id),
            disliked_item_ids=state.refused_as(DISLIKED),
            hidden_item_ids=state.refused_as(HIDDEN),
        )
        session.time_to_live.FromNanoseconds(int(state.ttl_seconds * 1e9))
        return pb.GetSessionResponse(session=session)

    async def SetControls(self, request: pb.SetControlsRequest, caller: Caller) -> pb.SetControlsResponse:
        parsed = self.release.controls.parse("controls", CONTROL_SOURCE_SESSION, request.controls)
        raise_if_any([*check_session_id(request.session_id), *violations(parsed)])
        self.release.controls.check_fresh(parsed)
        kept = [control.applied.control.SerializeToString() for control in parsed.controls]
        version = await self.store.set_controls(caller.session_key(request.session_id), kept)
        return pb.SetControlsResponse(session_version=version)

    async def DeleteSession(self, request: pb.DeleteSessionRequest, caller: Caller) -> pb.DeleteSessionResponse:
        raise_if_any(list(check_session_id(request.session_id)))
        existed = await self.store.delete(caller.session_key(request.session_id))
        return pb.DeleteSessionResponse(existed=existed)
