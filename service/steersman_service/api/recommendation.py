"""RecommendationService: a history or a session in, items out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import (
    CONTROL_SOURCE_DISLIKED,
    CONTROL_SOURCE_REQUEST,
    CONTROL_SOURCE_SESSION,
    AppliedControl,
    Control,
)
from steersman_service.api.batch import BatchVisits, SessionVisits, answer_each
from steersman_service.api.caller import Caller
from steersman_service.api.composing import composed
from steersman_service.api.list_change import ListChange
from steersman_service.api.parts import AnswerParts, check_parts, leave_edits_out
from steersman_service.api.placement import Placement, Placements
from steersman_service.api.release import Release
from steersman_service.api.solving import Solver, history_session
from steersman_service.checks import MAX_REQUEST_ID_BYTES, check_bytes, check_events, check_item_ids, check_session_id
from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.errors import FieldViolation, SessionBehind, SessionUnreadable, StoreUnavailable, raise_if_any
from steersman_service.scheduling.client import Engines
from steersman_service.sessions.events import CONSUMED, DISLIKED, HIDDEN, kinds_of
from steersman_service.sessions.reader import SessionReader
from steersman_service.settings import Settings
from steersman_service.steering.composition import Plan, asks_for_anything, check_composition, joined, plan
from steersman_service.steering.controls import ParsedControls, violations
from steersman_service.steering.dislikes import less_like
from steersman_service.steering.eligibility import check_filters
from steersman_service.steering.interpret import Interpretation, ItemHistory, interpret
from steersman_service.steering.steering import Steering
from steersman_service.telemetry.metrics import SteeringMetrics

DEFAULT_K = 10
# Far beyond any history, and far below where the total of events would overflow its field.
MAX_EVENTS_BEFORE = 2**53

# Why a request is answered from its fallback_history.
DEGRADATIONS = {
    StoreUnavailable: pb.DEGRADATION_SESSION_UNAVAILABLE,
    SessionUnreadable: pb.DEGRADATION_SESSION_UNAVAILABLE,
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
    placement: Placement | None = None
    """Of the scenario that the request names."""
    plan: Plan | None = None
    """How the list is composed. None: the best items are the list."""
    notes: Sequence[str] = ()
    """What composition could not hold, once the list is there."""


@dataclass(frozen=True)
class RecommendationService:
    release: Release
    engines: Engines
    sessions: SessionReader
    settings: Settings
    metrics: SteeringMetrics
    list_change: ListChange
    placements: Placements

    async def Recommend(self, request: pb.RecommendRequest, caller: Caller) -> pb.RecommendResponse:
        prepared, parts = await self.prepare(request, caller), AnswerParts.of(request)
        _, answer = await self.answered(prepared, request, caller, caller.session_key(request.session_id), parts)
        return answer

    async def BatchRecommend(self, request: pb.BatchRecommendRequest, caller: Caller) -> pb.BatchRecommendResponse:
        visits = BatchVisits(self.sessions)

        async def answer(one: pb.RecommendRequest, caller: Caller) -> pb.RecommendResponse:
            prepared = await self.prepare(one, caller, visits)
            key = caller.session_key(one.session_id) or history_session(prepared.interpretation.request)
            _, answer = await self.answered(prepared, one, caller, key, AnswerParts.of(one))
            return answer

        return await answer_each(request, caller, self.settings.max_batch_requests, answer)

    async def prepare(
        self, request: pb.RecommendRequest, caller: Caller, sessions: SessionVisits | None = None
    ) -> Prepared:
        """Checks a request, appends its new events, and makes of it what the engine takes. Raises a RequestError.

        `sessions` are read in place of the service's own.
        """
        controls = self.release.controls
        requested = controls.parse("controls", CONTROL_SOURCE_REQUEST, request.controls)
        raise_if_any([*self._check(request), *violations(requested)])
        placement = await self.placements.of(request) if request.scenario else None
        loaded = await self._load(request, caller, sessions or self.sessions)
        steering = controls.steer(*self._steering_parts(request, loaded, placement), requested)
        return self.interpreted(request, loaded, steering, placement)

    def interpreted(
        self, request: pb.RecommendRequest, loaded: LoadedHistory, steering: Steering, placement: Placement | None
    ) -> Prepared:
        """What the engine takes of a checked request, for any history and any controls."""
        interpretation = interpret(
            self.release.items,
            self.release.bundle.manifest.window,
            loaded.history,
            steering,
            request.filters,
            request.k or DEFAULT_K,
            grows=bool(request.session_id),
            beside=placement.filters if placement else None,
        )
        prepared = Prepared(loaded, steering, interpretation, placement)
        if not (request.HasField("composition") or placement):
            return prepared
        composition = joined(placement.composition, request.composition) if placement else request.composition
        if not asks_for_anything(composition):
            return prepared
        planned = plan(composition, interpretation.request, self.release.items)
        wider = interpretation.request._replace(k=planned.candidates)
        return prepared._replace(plan=planned, interpretation=interpretation._replace(request=wider))

    def _steering_parts(
        self, request: pb.RecommendRequest, loaded: LoadedHistory, placement: Placement | None
    ) -> Iterator[ParsedControls]:
        """Controls that come before those of the request."""
        controls = self.release.controls
        if placement:
            yield placement.controls
        if loaded.controls:
            yield controls.parse("session.controls", CONTROL_SOURCE_SESSION, loaded.controls)
        if len(loaded.history.refused) and not request.ignore_dislikes:
            disliked = less_like(loaded.history.refused, self.release.items, self.settings.dislike_strength)
            parsed = controls.parse("session.disliked", CONTROL_SOURCE_DISLIKED, disliked)
            # No feature may turn these items alone down. They are not recommended either way.
            if not parsed.violations:
                yield parsed

    async def answered(
        self, prepared: Prepared, request: pb.RecommendRequest, caller: Caller, session: str, parts: AnswerParts
    ) -> tuple[Prepared, pb.RecommendResponse]:
        """The answer to a prepared request, and how it stands then: goals have become strengths. Raises what the engine's queue raises.

        Calls of one `session` reach one engine.
        """
        if not (parts.receipt or prepared.steering.has_goals):
            if prepared.plan is not None:
                prepared, result = await self._composed(prepared, prepared.plan, caller, session)
            else:
                asked = prepared.interpretation.request
                result = await self.engines.submit(asked, caller.deadline, caller.tenant, session)
            return prepared, self.answer(prepared, result, caller.request_id, parts)
        asked, planned = prepared.interpretation.request, prepared.plan
        # Goals and receipts are of the best items. A composition arranges them afterwards.
        asked = asked._replace(k=planned.k) if planned else asked
        session = session or history_session(asked)
        solver = Solver(self.release, self.engines, prepared.steering, asked, caller, session)
        solved = await solver.solve(with_receipt=parts.receipt is not False)
        result = solved.result
        prepared = self.interpreted(request, prepared.loaded, solved.steering, prepared.placement)
        if prepared.plan:
            prepared, result = await self._composed(prepared, prepared.plan, caller, session)
        response = self.answer(prepared, result, caller.request_id, parts)
        if solved.receipt:
            response.receipt.CopyFrom(solved.receipt)
        return prepared, response

    async def _composed(
        self, prepared: Prepared, planned: Plan, caller: Caller, session: str
    ) -> tuple[Prepared, EngineResult]:
        """The composed list of a prepared request."""

        async def submit(request: EngineRequest) -> EngineResult:
            return await self.engines.submit(request, caller.deadline, caller.tenant, session)

        request = prepared.interpretation.request
        result, notes = await composed(planned, request, await submit(request), submit, self.release)
        return prepared._replace(notes=notes), result

    def answer(
        self, prepared: Prepared, result: EngineResult, request_id: str, parts: AnswerParts
    ) -> pb.RecommendResponse:
        """What the caller gets. Counts it."""
        loaded, steering, interpretation, placement, planned, notes = prepared
        applied = steering.applied
        if parts.edits:
            steering.resolve(result.concept_edits, self.release.catalogue)
        kinds = [control.kind for control in steering.controls]
        self.metrics.recommended(kinds, loaded.degradations, new_session=loaded.new_session)
        # A composed list differs from the best items for other reasons than controls.
        if applied and planned is None:
            self.list_change.sample(interpretation.request, result.rows_K)
        response = self._response(request_id, loaded, interpretation, applied, result)
        if placement:
            response.scenario_version = placement.version
        if notes:
            response.composition_notes.extend(notes)
        if not parts.edits:
            leave_edits_out(response)
        if parts.attributes:
            for item, known in zip(response.items, self.release.attributes.of(result.rows_K), strict=True):
                item.attributes.extend(known)
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
        if request.HasField("history"):
            yield from self._check_history("history", request.history)
        if request.HasField("fallback_history"):
            yield from self._check_history("fallback_history", request.fallback_history)
        if request.k > self.settings.max_k:
            yield FieldViolation("k", f"{request.k} items; at most {self.settings.max_k}")
        yield from check_parts(request)
        items, max_filter_items = self.release.items, self.settings.max_filter_items
        if request.HasField("filters"):
            yield from check_filters(request.filters, items, max_filter_items)
        if request.HasField("composition"):
            yield from check_composition(request.composition, request.filters, items, max_filter_items)

    def _check_history(self, field: str, history: pb.History) -> Iterator[FieldViolation]:
        count, limit = len(history.item_ids), self.settings.max_history_items
        if count > limit:
            yield FieldViolation(f"{field}.item_ids", f"{count} items; at most {limit}, with the rest in events_before")
        else:
            yield from check_item_ids(f"{field}.item_ids", history.item_ids)
        if history.events_before > MAX_EVENTS_BEFORE:
            yield FieldViolation(f"{field}.events_before", f"at most {MAX_EVENTS_BEFORE}")

    async def _load(self, request: pb.RecommendRequest, caller: Caller, sessions: SessionVisits) -> LoadedHistory:
        """Appends new events to a session that is named. Raises StoreUnavailable or SessionBehind where there is no fallback."""
        if not request.session_id:
            return LoadedHistory(self._given(request.history))
        events = [(event.event_id, event.item_id) for event in request.new_events]
        kinds = kinds_of(request.new_events)
        try:
            session = await sessions.visit(caller.session_key(request.session_id), events, kinds)
            version = session.version if session else 0
            if version < request.min_session_version:
                raise SessionBehind(version, request.min_session_version)
        except (StoreUnavailable, SessionBehind) as error:
            if not request.HasField("fallback_history"):
                raise
            newer = kinds.items(events, CONSUMED) if kinds else (item_id for _, item_id in events)
            refused = kinds.items(events, DISLIKED + HIDDEN) if kinds else ()
            history = self._given(request.fallback_history, newer)
            history = history._replace(refused=self.release.items.rows(refused))
            return LoadedHistory(history, degradations=[DEGRADATIONS[type(error)]])
        if session is None:
            return LoadedHistory(ItemHistory(), new_session=True)
        history = ItemHistory(session.places, session.total_events, session.refused)
        return LoadedHistory(history, session.controls, version, session.created)

    def _given(self, history: pb.History, newer: Iterable[str] = ()) -> ItemHistory:
        places = self.release.items.places(chain(history.item_ids, newer))
        return ItemHistory(places, history.events_before + len(places))

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
