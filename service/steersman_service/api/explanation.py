"""ExplanationService: why a list is as it is, and what would change it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from steersman.v1 import explanation_service_pb2 as pb
from steersman.v1.recommendation_service_pb2 import RecommendRequest, RecommendResponse
from steersman_service.api.caller import Caller
from steersman_service.api.changes import Asked, ChangeFinder, submitted
from steersman_service.api.parts import AnswerParts, leave_edits_out
from steersman_service.api.recommendation import RecommendationService
from steersman_service.bundle.items import UNKNOWN
from steersman_service.engine.request import Account
from steersman_service.errors import (
    ENOUGH_VIOLATIONS,
    FieldViolation,
    InvalidRequest,
    NotExplainable,
    raise_if_any,
)
from steersman_service.steering.accounts import account_request, activation_request, strongest_changes, with_tilts

MOST_ITEMS = 100
DEFAULT_FEATURES, MOST_FEATURES = 5, 100
# Events that are named for each feature.
MOST_INFLUENCES = 20


@dataclass(frozen=True, eq=False)
class ExplanationService:
    recommendation: RecommendationService

    async def Explain(self, request: pb.ExplainRequest, caller: Caller) -> pb.ExplainResponse:
        if self.recommendation.release.bundle.decoder_FD is None:
            raise NotExplainable
        raise_if_any(list(self._check(request)))
        asked, answer = await self._answered(request.request, caller, changes=request.HasField("change"))
        account = await self._account(request, asked, answer)
        response = pb.ExplainResponse(recommendation=answer, method=self._method)
        if not AnswerParts.of(request.request).edits:
            leave_edits_out(response.recommendation)
        self._tell_accounts(response, request, answer, account)
        await self._tell_taste(response.taste, account, asked, with_events=request.event_influence)
        if request.HasField("change"):
            response.change.CopyFrom(await self._changes.find(request.change, asked, account.scores_R))
        return response

    def _check(self, request: pb.ExplainRequest) -> Iterator[FieldViolation]:
        if request.request.new_events:
            why = "are refused: an explanation changes nothing; append them first, by AppendEvents"
            yield FieldViolation("request.new_events", why)
        if request.top_features > MOST_FEATURES:
            yield FieldViolation("top_features", f"{request.top_features} features; at most {MOST_FEATURES}")
        if (count := len(request.item_ids)) > MOST_ITEMS:
            yield FieldViolation("item_ids", f"{count} items; at most {MOST_ITEMS}")
        else:
            places = self.recommendation.release.items.places(request.item_ids)
            for index in np.flatnonzero(places == UNKNOWN)[:ENOUGH_VIOLATIONS].tolist():
                why = f"unknown item {request.item_ids[index][:100]!r}; ListItems finds items"
                yield FieldViolation(f"item_ids[{index}]", why)
        if request.HasField("change"):
            yield from self._changes.check(request.change)

    async def _answered(
        self, request: RecommendRequest, caller: Caller, *, changes: bool
    ) -> tuple[Asked, RecommendResponse]:
        """The request as Recommend answers it. Errors name fields from `request` on."""
        service = self.recommendation
        try:
            prepared = await service.prepare(request, caller)
        except InvalidRequest as error:
            raise InvalidRequest([FieldViolation(f"request.{field}", why) for field, why in error.violations]) from None
        if prepared.plan is not None and changes:
            why = "is not looked for in a composed list: leave the composition out, or the scenario that brings it"
            raise InvalidRequest([FieldViolation("change", why)])
        request_id = request.request_id or caller.request_id
        session = caller.session_key(request.session_id) or request_id
        # The account needs the edits.
        parts, own = AnswerParts.of(request)._replace(edits=True), caller._replace(request_id=request_id)
        prepared, answer = await service.answered(prepared, request, own, session, parts)
        listed = service.release.items.places(item.item_id for item in answer.items).tolist()
        return Asked(request, prepared, listed, caller, session), answer

    async def _account(self, request: pb.ExplainRequest, asked: Asked, answer: RecommendResponse) -> Account:
        """Of the list's items, those named, and that of the change."""
        items, applied = self.recommendation.release.items, answer.applied_controls
        changed = [request.change.item_id] if request.HasField("change") else []
        rows_R = np.array([*asked.listed, *items.places([*request.item_ids, *changed])], np.int64)
        top = request.top_features or DEFAULT_FEATURES
        wanted = account_request(asked.prepared.interpretation.request, applied, rows_R, top)
        engines, caller = self.recommendation.engines, asked.caller
        result = await engines.submit(wanted, caller.deadline, caller.tenant, asked.session)
        assert result.account is not None
        return with_tilts(result.account, applied, items, rows_R)

    def _tell_accounts(
        self,
        response: pb.ExplainResponse,
        request: pb.ExplainRequest,
        answer: RecommendResponse,
        account: Account,
    ) -> None:
        """One for each item of the list, then each named."""
        items, labels = self.recommendation.release.items, self.recommendation.release.catalogue.labels
        ids = [*(item.item_id for item in answer.items), *request.item_ids]
        ranks = {item.item_id: rank for rank, item in enumerate(answer.items, 1)}
        rows = items.places(ids).tolist()
        for place, (item_id, row) in enumerate(zip(ids, rows, strict=True)):
            told = response.accounts.add(
                item_id=item_id,
                title=items.titles[row],
                rank=ranks.get(item_id, 0),
                score=account.scores_R[place],
                other_features=account.other_R[place],
                unexplained=account.unexplained_R[place],
                bias=account.biases_R[place],
                controls=account.controls_RM[place].tolist(),
            )
            named = zip(account.features_RJ[place].tolist(), account.amounts_RJ[place].tolist(), strict=True)
            for feature, amount in named:
                told.features.add(feature_id=feature, label=labels[feature], amount=amount)

    async def _tell_taste(self, taste: pb.Taste, account: Account, asked: Asked, *, with_events: bool) -> None:
        labels = self.recommendation.release.catalogue.labels
        taste.unexplained_share = account.unexplained_share
        for feature, share in zip(account.taste_J.tolist(), account.shares_J.tolist(), strict=True):
            taste.features.add(
                feature_id=feature,
                label=labels[feature],
                activation=account.activations_F[feature],
                spread_share=share,
            )
        if with_events and len(asked.prepared.interpretation.request.ids_T):
            await self._tell_events(taste.features, account, asked)

    async def _tell_events(self, features: Sequence[pb.ActiveFeature], account: Account, asked: Asked) -> None:
        """Leaves out each event once."""
        request, items = asked.prepared.interpretation.request, self.recommendation.release.items
        makes = [partial(activation_request, request, place) for place in range(len(request.ids_T))]
        results = await submitted(self.recommendation, makes, asked.caller, asked.session)
        without_VF = np.array([result.account.activations_F for result in results if result.account is not None])
        for told in features:
            for place, change in strongest_changes(account.activations_F, without_VF, told.feature_id, MOST_INFLUENCES):
                row = int(request.ids_T[place])
                told.events.add(place=place, item_id=items.ids[row], title=items.titles[row], activation_change=change)

    @cached_property
    def _changes(self) -> ChangeFinder:
        return ChangeFinder(self.recommendation)

    @property
    def _method(self) -> str:
        hook = self.recommendation.release.bundle.manifest.hook
        return "exact" if hook.block == hook.blocks else "path"
