"""Which release answers a call, without a server."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from steersman.v1.control_pb2 import Control, FeatureRef
from steersman.v1.explanation_service_pb2 import ExplainRequest
from steersman.v1.feature_service_pb2 import GetFeatureRequest, ListFeaturesRequest, ListNeighboursRequest
from steersman.v1.recommendation_service_pb2 import BatchRecommendRequest, History, RecommendRequest
from steersman.v1.scenario_service_pb2 import PutScenarioRequest, Scenario
from steersman.v1.session_service_pb2 import SetControlsRequest
from steersman_service.api.caller import Caller
from steersman_service.api.channels import Channels, HeldRelease
from steersman_service.errors import BundleNotServed

ANY = Caller()
SESSIONS = [RecommendRequest(session_id=f"s{number}") for number in range(2000)]


def held(version: str, *, alive: bool = True) -> HeldRelease:
    release: Any = SimpleNamespace(version=version)
    engines: Any = SimpleNamespace(alive=alive)
    return HeldRelease(release, engines, {})


STABLE, TRIAL = held("v1"), held("v2")


def routed(share: float, trial: HeldRelease = TRIAL) -> Channels:
    channels = Channels(STABLE)
    channels.route(STABLE, trial, share)
    return channels


def in_canary(channels: Channels, caller: Caller = ANY) -> set[str]:
    return {request.session_id for request in SESSIONS if channels.choose(request, caller) is not STABLE}


def test_a_share_is_sticky_and_grows_by_those_who_join() -> None:
    sets = [in_canary(routed(share)) for share in (0, 0.01, 0.05, 0.3, 0.6, 1)]
    assert [round(len(chosen) / len(SESSIONS), 1) for chosen in sets] == [0, 0, 0.1, 0.3, 0.6, 1]
    assert all(fewer < more for fewer, more in pairwise(sets))
    assert in_canary(routed(0.3)) == sets[3]
    # Neither another tenant nor another canary draws the same sessions.
    assert in_canary(routed(0.3), Caller(tenant="gold")) != sets[3]
    assert in_canary(routed(0.3, held("v3"))) != sets[3]


def of_one_history(item_id: str) -> list[Any]:
    asked = RecommendRequest(history=History(item_ids=[item_id]))
    batch = BatchRecommendRequest(requests=[asked, RecommendRequest(session_id="other")])
    later = RecommendRequest(history=History(item_ids=[item_id]), k=3, request_id="r")
    return [asked, later, batch, ExplainRequest(request=asked)]


def test_what_belongs_together_goes_to_one_release() -> None:
    channels = routed(0.5)
    for number in range(50):
        assert len({channels.choose(each, ANY) for each in of_one_history(str(number))}) == 1
        session = f"s{number}"
        both = RecommendRequest(session_id=session), SetControlsRequest(session_id=session)
        assert len({channels.choose(each, ANY) for each in both}) == 1
    assert {channels.choose(of_one_history(str(number))[0], ANY) for number in range(50)} == {STABLE, TRIAL}
    named = {channels.choose(RecommendRequest(request_id=str(number)), ANY) for number in range(50)}
    assert named == {STABLE, TRIAL}


@pytest.mark.parametrize("request_", [RecommendRequest(), ListFeaturesRequest(), BatchRecommendRequest()])
def test_what_has_neither_session_nor_history_is_the_stable_release_s(request_: Any) -> None:
    assert routed(1).choose(request_, ANY) is STABLE


def with_feature(version: str) -> list[Any]:
    control = Control(feature=FeatureRef(id=1, bundle_version=version))
    asked = RecommendRequest(controls=[Control(concept="a"), control])
    return [
        asked,
        BatchRecommendRequest(requests=[RecommendRequest(), asked]),
        ExplainRequest(request=asked),
        SetControlsRequest(session_id="s", controls=[control]),
        PutScenarioRequest(scenario=Scenario(controls=[control])),
        ListNeighboursRequest(feature=control.feature),
        GetFeatureRequest(id=1, bundle_version=version),
    ]


def test_a_version_that_is_named_answers_where_it_is_served() -> None:
    for share in (0, 1):
        channels = routed(share)
        assert {channels.choose(request, ANY) for request in with_feature("v1")} == {STABLE}
        assert {channels.choose(request, ANY) for request in with_feature("v2")} == {TRIAL}
        for version, release in (("v1", STABLE), ("v2", TRIAL)):
            for request in (SESSIONS[0], ListFeaturesRequest(), *with_feature("v2")):
                assert channels.choose(request, Caller(bundle_version=version)) is release
        with pytest.raises(BundleNotServed, match="v1 or v2"):
            channels.choose(SESSIONS[0], Caller(bundle_version="v0"))
    # One of an older bundle is carried, or refused, by the release that the session has.
    assert routed(1).choose(SetControlsRequest(session_id="s", controls=with_feature("v0")[0].controls), ANY) is TRIAL
    assert routed(0).choose(with_feature("v0")[0], ANY) is STABLE


def test_a_canary_without_engines_costs_no_answer() -> None:
    assert in_canary(routed(1, held("v2", alive=False))) == set()


async def test_a_call_ends_with_the_release_that_it_began_with() -> None:
    seen: list[tuple[str, bool]] = []

    class Service:
        async def Recommend(self, request: Any, caller: Caller) -> str:
            assert not STABLE._idle.is_set()
            channels.route(TRIAL)
            if request.k:
                raise ValueError
            return "answer"

    STABLE.handlers = {"RecommendationService": Service()}
    channels = Channels(STABLE, lambda channel, ok, seconds: seen.append((channel, ok)))
    recommend = channels.behaviour("RecommendationService", "Recommend")
    assert await recommend(RecommendRequest(), ANY) == "answer"
    await STABLE.idle()
    channels.route(STABLE)
    with pytest.raises(ValueError):
        await recommend(RecommendRequest(k=1), ANY)
    await STABLE.idle()
    assert seen == [("stable", True), ("stable", False)]
