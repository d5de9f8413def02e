"""Which role a call needs. Every RPC of the contract stands here; one that does not is an administrator's."""

from collections.abc import Mapping

from google.protobuf.message import Message

from steersman.v1.recommendation_service_pb2 import BatchRecommendRequest, RecommendRequest
from steersman_service.errors import RoleMissing
from steersman_service.identity.identity import Identity, Role

ROLES: Mapping[str, Role] = {
    "RecommendationService/Recommend": Role.RECOMMEND,  # with controls: STEER
    "RecommendationService/BatchRecommend": Role.RECOMMEND,  # the same
    "SessionService/AppendEvents": Role.RECOMMEND,
    "SessionService/GetSession": Role.RECOMMEND,
    "SessionService/DeleteSession": Role.RECOMMEND,
    "SessionService/SetControls": Role.STEER,
    "ItemService/ListItems": Role.RECOMMEND,
    "ItemService/ListAttributes": Role.RECOMMEND,
    "ModelService/GetModelInfo": Role.RECOMMEND,
    "ModelService/ListBundles": Role.STEER,
    "ModelService/ListHistories": Role.ADMIN,  # of people
    "ExplanationService/Explain": Role.STEER,
    "FeatureService/ListFeatures": Role.STEER,
    "FeatureService/GetFeature": Role.STEER,
    "FeatureService/ListConcepts": Role.STEER,
    "FeatureService/ListNeighbours": Role.STEER,
    "FeatureService/SetLabel": Role.ADMIN,
    "ReleaseService/ListReleases": Role.STEER,
    "ReleaseService/LoadRelease": Role.ADMIN,
    "ReleaseService/SetCanaryShare": Role.ADMIN,
    "ReleaseService/PromoteCanary": Role.ADMIN,
    "ReleaseService/RollBack": Role.ADMIN,
    "ScenarioService/ListScenarios": Role.STEER,
    "ScenarioService/GetScenario": Role.STEER,
    "ScenarioService/PutScenario": Role.ADMIN,
    "ScenarioService/DeleteScenario": Role.ADMIN,
    "ScenarioService/ListScenarioChanges": Role.ADMIN,
    "ScenarioService/ReplayScenarios": Role.ADMIN,
}


# Of a batch that has not been checked: one of more, which no server answers, passes for one with controls.
MOST_LOOKED_AT = 10_000


def permit(call: str, request: Message, identity: Identity) -> None:
    """`call` is "Service/Method". Raises RoleMissing."""
    needed, what = ROLES.get(call, Role.ADMIN), call
    if needed < Role.STEER and _steers(request):
        needed, what = Role.STEER, f"{call} with controls"
    if identity.role < needed:
        raise RoleMissing(what, needed.word, identity.role.word)


def _steers(request: Message) -> bool:
    if isinstance(request, BatchRecommendRequest):
        return len(request.requests) > MOST_LOOKED_AT or any(map(_steers, request.requests))
    return isinstance(request, RecommendRequest) and bool(request.controls)
