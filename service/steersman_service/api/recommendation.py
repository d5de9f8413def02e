"""RecommendationService: a history or a session in, items out."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import (
    CONTROL_SOURCE_REQUEST,
    CONTROL_SOURCE_SESSION,
    AppliedControl,
    Control,
)
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceServicer
from steersman_service.api.list_change import ListChange
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import NOWHERE, Items, Rows, known
from steersman_service.bundle.window import in_window
from steersman_service.checks import MAX_REQUEST_ID_BYTES, MAX_TENANT_BYTES, check_bytes, check_events, check_session_id
from steersman_service.engine.engine import Work
from steersman_service.engine.request import EngineResult
from steersman_service.errors import SessionBehind, StoreUnavailable, Violation, raise_if_any
from steersman_service.rpc.calls import Context, seconds_left
from steersman_service.scheduling.client import Engines
from steersman_service.sessions.reader import Session, SessionReader
from steersman_service.settings import Settings
from steersman_service.steering.controls import ControlReader
from steersman_service.steering.eligibility import Eligibility, check_filters, eligibility
from steersman_service.telemetry.metrics import Metrics

DEFAULT_K = 10
# A key of the call's metadata, so that a proxy can set it for callers that it knows.
TENANT = "steersman-tenant"
# Far beyond any history, and far below where the total of events would overflow its field.
MAX_EVENTS_BEFORE = 2**53


# What an answer from fallback_history says of the session.
DEGRADATIONS = {
    StoreUnavailable: pb.DEGRADATION_SESSION_UNAVAILABLE,
    SessionBehind: pb.DEGRADATION_SESSION_BEHIND,
}


class Past(NamedTuple):
    """What is known of the one who asks."""

    places: Rows = NOWHERE
    """Rows of the latest events' items, oldest first, or UNKNOWN."""
    total_events: int = 0
    controls: Sequence[Control] = ()
    """Sticky ones."""
    session: Session | None = None
    """Where it is known from; None: the request itself, or nowhere."""
    degradations: Sequence[pb.Degradation] = ()
    new_session: bool = False
    """The store knew nothing of the session that was named."""


@dataclass(frozen=True)
class RecommendationService(RecommendationServiceServicer):
    bundle: Bundle
    items: Items
    catalogue: Catalogue
    controls: ControlReader
    engines: Engines
    sessions: SessionReader
    settings: Settings
    metrics: Metrics
    list_change: ListChange

    async def Recommend(self, request: pb.RecommendRequest, context: Context) -> pb.RecommendResponse:
        requested = self.controls.source("controls", CONTROL_SOURCE_REQUEST, request.controls)
        tenant = _tenant(context)
        raise_if_any([*self._check(request), *_check_tenant(tenant), *self.controls.check(requested)])
        past = await self._past(request)
        sources = (self.controls.source("session.controls", CONTROL_SOURCE_SESSION, past.controls), requested)
        if past.controls:
            raise_if_any(self.controls.check(*sources))
        steering = self.controls.read(*sources)
        window = self.bundle.manifest.window
        shown = in_window(past.places, past.total_events, window.length, window.stride)
        ids_T = known(shown)
        eligible = eligibility(request.filters, known(past.places), self.items)
        work = Work(
            ids_T,
            steering.edits,
            steering.concepts_C,
            steering.concept_strengths_C,
            eligible.mask_N,
            request.k or DEFAULT_K,
            steering.tilts_N,
            eligible.excluded_X,
            bool(request.session_id),
            past.session.state if past.session else b"",
        )
        computed = await self.engines.submit(work, time.monotonic() + seconds_left(), tenant, request.session_id)
        use = pb.HistoryUse(
            total_events=past.total_events,
            used_events=len(ids_T),
            unknown_events=len(shown) - len(ids_T),
            empty=not len(ids_T),
            new_session=past.new_session,
        )
        applied = steering.resolved(computed.concept_edits, self.catalogue)
        self.metrics.recommended(applied, past.degradations, new_session=past.new_session)
        if applied:
            self.list_change.sample(work, computed.rows_K, context)
        return self._response(request, past, use, eligible, applied, computed)

    def _check(self, request: pb.RecommendRequest) -> Iterator[Violation]:
        yield from check_bytes("request_id", request.request_id, 0, MAX_REQUEST_ID_BYTES)
        if request.session_id:
            yield from check_session_id(request.session_id)
            if request.HasField("history"):
                yield Violation("history", "is ambiguous beside session_id: give one of them")
            if request.new_events:
                yield from check_events("new_events", request.new_events, self.settings.max_events_per_append)
        else:
            if request.HasField("fallback_history"):
                yield Violation("fallback_history", "goes only beside session_id; give history instead")
            if request.new_events:
                yield Violation("new_events", "go only beside session_id; give them in history instead")
            if request.min_session_version:
                yield Violation("min_session_version", "goes only beside session_id")
        yield from self._check_history("history", request.history)
        yield from self._check_history("fallback_history", request.fallback_history)
        if request.k > self.settings.max_k:
            yield Violation("k", f"{request.k} items; at most {self.settings.max_k}")
        yield from check_filters(request.filters, self.items, self.settings.max_filter_items)

    def _check_history(self, field: str, history: pb.History) -> Iterator[Violation]:
        count, limit = len(history.item_ids), self.settings.max_history_items
        if count > limit:
            yield Violation(f"{field}.item_ids", f"{count} items; at most {limit}, with the rest in events_before")
        if history.events_before > MAX_EVENTS_BEFORE:
            yield Violation(f"{field}.events_before", f"at most {MAX_EVENTS_BEFORE}")

    async def _past(self, request: pb.RecommendRequest) -> Past:
        if not request.session_id:
            return self._given(request.history)
        try:
            events = [(event.event_id, event.item_id) for event in request.new_events]
            session = await self.sessions.visit(request.session_id, events)
            version = session.version if session else 0
            if version < request.min_session_version:
                raise SessionBehind(version, request.min_session_version)
        except (StoreUnavailable, SessionBehind) as error:
            if not request.HasField("fallback_history"):
                raise
            past = self._given(request.fallback_history, [event.item_id for event in request.new_events])
            return past._replace(degradations=[DEGRADATIONS[type(error)]])
        if session is None:
            return Past(new_session=True)
        return Past(session.places, session.total_events, session.controls, session, new_session=session.created)

    def _given(self, history: pb.History, newer: Sequence[str] = ()) -> Past:
        item_ids = [*history.item_ids, *newer]
        return Past(self.items.places(item_ids), history.events_before + len(item_ids))

    def _response(
        self,
        request: pb.RecommendRequest,
        past: Past,
        use: pb.HistoryUse,
        eligible: Eligibility,
        applied: Sequence[AppliedControl],
        computed: EngineResult,
    ) -> pb.RecommendResponse:
        response = pb.RecommendResponse(
            request_id=request.request_id,
            applied_controls=applied,
            bundle_version=self.bundle.version,
            session_version=past.session.version if past.session else 0,
            history_use=use,
            eligible_items=eligible.eligible,
            unknown_filter_ids=eligible.unknown_ids,
            degradations=past.degradations,
            timings=pb.Timings(
                queue_ms=1e3 * computed.queue_seconds,
                inference_ms=1e3 * computed.inference_seconds,
                batch_size=computed.batch_size,
            ),
        )
        # Made where they stay, field by field: a list of them would be copied, and names of arguments looked up.
        add, ids, titles = response.items.add, self.items.ids, self.items.titles
        for row, score in zip(computed.rows_K.tolist(), computed.scores_K.tolist(), strict=True):
            item = add()
            item.item_id, item.title, item.score = ids[row], titles[row], score
        return response


def _tenant(context: Context) -> str:
    """Whose turn in the queue it takes; all calls without one are of one tenant."""
    metadata = context.invocation_metadata() or ()
    return next((str(value) for key, value in metadata if key == TENANT), "")


def _check_tenant(tenant: str) -> Iterator[Violation]:
    yield from check_bytes(f"metadata {TENANT}", tenant, 0, MAX_TENANT_BYTES)
