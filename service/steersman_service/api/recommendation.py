"""RecommendationService: a history or a session in, items out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import CONTROL_SOURCE_REQUEST, CONTROL_SOURCE_SESSION, AppliedControl, Control
from steersman_service.api.batch import BatchVisits, SessionVisits, answer_each
from steersman_service.api.caller import Caller
from steersman_service.api.list_change import ListChange
from steersman_service.api.release import Release
from steersman_service.api.solving import Solver, history_session
from steersman_service.checks import MAX_REQUEST_ID_BYTES, check_bytes, check_events, check_session_id
from steersman_service.engine.request import EngineResult
from steersman_service.errors import FieldViolation, SessionBehind, StoreUnavailable, raise_if_any
from steersman_service.scheduling.client import Engines
from steersman_service.sessions.reader import SessionReader
from steersman_service.settings import Settings
from steersman_service.steering.controls import Steering, violations
from steersman_service.steering.eligibility import check_filters
from steersman_service.steering.interpret import Interpretation, ItemHistory, interpret
from steersman_service.telemetry.metrics import SteeringMetrics

DEFAULT_K = 10
# Far beyond any history, and far below where the total of events would overflow its field.
MAX_EVENTS_BEFORE = 2**53

# Why a request is answered from its fallback_history.
DEGRADATIONS = {
    StoreUnavailable: pb.DEGRADATION_SESSION_UNAVAILABLE,
    SessionBehind: pb.DEGRADATION_SESSION_BEHIND,
}


class LoadedHistory(NamedTuple):
    """The history of a request, from itself or from the session that it names."""

    history: ItemHistory
    controls: Sequence[Control] = ()
    """Sticky ones."""
    session_version: int = 0
    new_session: bool = False
    """The session that was named did not exist before."""
    degradations: Sequence[pb.Degradation] = ()


class Prepared(NamedTuple):
    """A request, ready for the engine."""

    loaded: LoadedHistory
    steering: Steering
    interpretation: Interpretation


@dataclass(frozen=True)
class RecommendationService:
    release: Release
    engines: Engines
    sessions: SessionReader
    settings: Settings
    metrics: SteeringMetrics
    list_change: ListChange

    async def Recommend(self, request: pb.RecommendRequest, caller: Caller) -> pb.RecommendResponse:
        return await self._recommend(request, caller)

    async def BatchRecommend(self, request: pb.BatchRecommendRequest, caller: Caller) -> pb.BatchRecommendResponse:
        visits = BatchVisits(self.sessions)

        async def answer(one: pb.RecommendRequest, caller: Caller) -> pb.RecommendResponse:
            return await self._recommend(one, caller, visits)

        return await answer_each(request, caller, self.settings.max_batch_requests, answer)

    async def prepare(self, request: pb.RecommendRequest, sessions: SessionVisits | None = None) -> Prepared:
        """Checks a request, appends its new events, and makes of it what the engine takes. Raises a RequestError.

        `sessions` are read in place of the service's own.
        """
        controls = self.release.controls
        requested = controls.parse("controls", CONTROL_SOURCE_REQUEST, request.controls)
        raise_if_any([*self._check(request), *violations(requested)])
        loaded = await self._load(request, sessions or self.sessions)
        sticky = controls.parse("session.controls", CONTROL_SOURCE_SESSION, loaded.controls)
        steering = controls.steer(sticky, requested)
        interpretation = interpret(
            self.release.items,
            self.release.bundle.manifest.window,
            loaded.history,
            steering,
            request.filters,
            request.k or DEFAULT_K,
            grows=bool(request.session_id),
        )
        return Prepared(loaded, steering, interpretation)

    def answer(self, prepared: Prepared, result: EngineResult, request_id: str) -> pb.RecommendResponse:
        """What the caller gets. Counts it."""
        loaded, steering, interpretation = prepared
        applied = steering.resolve(result.concept_edits, self.release.catalogue.labels)
        self.metrics.recommended(applied, loaded.degradations, new_session=loaded.new_session)
        if applied:
            self.list_change.sample(interpretation.request, result.rows_K)
        return self._response(request_id, loaded, interpretation, applied, result)

    async def _recommend(
        self, request: pb.RecommendRequest, caller: Caller, visits: BatchVisits | None = None
    ) -> pb.RecommendResponse:
        """`visits` of the call, where it has several requests: those on one history reach one engine."""
        prepared = await self.prepare(request, visits)
        asked, session = prepared.interpretation.request, request.session_id
        if request.receipt or prepared.steering.has_goals:
            return await self._answer_with_receipt(prepared, caller, session or history_session(asked))
        if visits is not None:
            session = session or history_session(asked)
        result = await self.engines.submit(asked, caller.deadline, caller.tenant, session)
        return self.answer(prepared, result, caller.request_id)

    async def _answer_with_receipt(self, prepared: Prepared, caller: Caller, session: str) -> pb.RecommendResponse:
        """Solves the goals of a request, if it has any, and answers under the strengths that were found."""
        asked = prepared.interpretation.request
        solved = await Solver(self.release, self.engines, prepared.steering, asked, caller, session).solve()
        response = self.answer(prepared._replace(steering=solved.steering), solved.result, caller.request_id)
        response.receipt.CopyFrom(solved.receipt)
        return response

    def _check(self, request: pb.RecommendRequest) -> Iterator[FieldViolation]:
        yield from check_bytes("request_id", request.request_id, 0, MAX_REQUEST_ID_BYTES)
        if request.session_id:
            yield from check_session_id(request.session_id)
            if request.HasField("history"):
                yield FieldViolation("history", "is ambiguous beside session_id: give one of them")
            if request.new_events:
                yield from check_events("new_events", request.new_events, self.settings.max_events_per_append)
        else:
            if request.HasField("fallback_history"):
                yield FieldViolation("fallback_history", "goes only beside session_id; give history instead")
            if request.new_events:
                yield FieldViolation("new_events", "go only beside session_id; give them in history instead")
            if request.min_session_version:
                yield FieldViolation("min_session_version", "goes only beside session_id")
        yield from self._check_history("history", request.history)
        yield from self._check_history("fallback_history", request.fallback_history)
        if request.k > self.settings.max_k:
            yield FieldViolation("k", f"{request.k} items; at most {self.settings.max_k}")
        yield from check_filters(request.filters, self.release.items, self.settings.max_filter_items)

    def _check_history(self, field: str, history: pb.History) -> Iterator[FieldViolation]:
        count, limit = len(history.item_ids), self.settings.max_history_items
        if count > limit:
            yield FieldViolation(f"{field}.item_ids", f"{count} items; at most {limit}, with the rest in events_before")
        if history.events_before > MAX_EVENTS_BEFORE:
            yield FieldViolation(f"{field}.events_before", f"at most {MAX_EVENTS_BEFORE}")

    async def _load(self, request: pb.RecommendRequest, sessions: SessionVisits) -> LoadedHistory:
        """Appends new events to a session that is named. Raises StoreUnavailable or SessionBehind where there is no fallback."""
        if not request.session_id:
            return LoadedHistory(self._given(request.history))
        try:
            events = [(event.event_id, event.item_id) for event in request.new_events]
            session = await sessions.visit(request.session_id, events)
            version = session.version if session else 0
            if version < request.min_session_version:
                raise SessionBehind(version, request.min_session_version)
        except (StoreUnavailable, SessionBehind) as error:
            if not request.HasField("fallback_history"):
                raise
            history = self._given(request.fallback_history, [event.item_id for event in request.new_events])
            return LoadedHistory(history, degradations=[DEGRADATIONS[type(error)]])
        if session is None:
            return LoadedHistory(ItemHistory(), new_session=True)
        history = ItemHistory(session.places, session.total_events)
        return LoadedHistory(history, session.controls, version, session.created)

    def _given(self, history: pb.History, newer: Sequence[str] = ()) -> ItemHistory:
        item_ids = [*history.item_ids, *newer]
        return ItemHistory(self.release.items.places(item_ids), history.events_before + len(item_ids))

    def _response(
        self,
        request_id: str,
        loaded: LoadedHistory,
        interpretation: Interpretation,
        applied: Sequence[AppliedControl],
        result: EngineResult,
    ) -> pb.RecommendResponse:
        response = pb.RecommendResponse(
            request_id=request_id,
            applied_controls=applied,
            bundle_version=self.release.version,
            session_version=loaded.session_version,
            history_use=interpretation.history_use,
            eligible_items=interpretation.eligibility.eligible,
            unknown_filter_ids=interpretation.eligibility.unknown_ids,
            degradations=loaded.degradations,
            timings=pb.Timings(
                queue_ms=1e3 * result.queue_seconds,
                inference_ms=1e3 * result.inference_seconds,
                batch_size=result.batch_size,
            ),
        )
        response.history_use.new_session = loaded.new_session
        # Field by field: a list of messages would be copied, and keyword arguments looked up.
        add, ids, titles = response.items.add, self.release.items.ids, self.release.items.titles
        for row, score in zip(result.rows_K.tolist(), result.scores_K.tolist(), strict=True):
            item = add()
            item.item_id, item.title, item.score = ids[row], titles[row], score
        return response
