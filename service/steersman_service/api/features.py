"""FeatureService: pages through the catalogue."""

from collections.abc import Iterator
from dataclasses import dataclass

from steersman.v1 import feature_service_pb2 as pb
from steersman_service.api.caller import Caller
from steersman_service.api.pages import MAX_PAGE_SIZE, check_query, page_of
from steersman_service.api.release import Release
from steersman_service.errors import FieldViolation, NotFound, raise_if_any

DEFAULT_FEATURES = 50


@dataclass(frozen=True)
class FeatureService:
    release: Release
    max_message_bytes: int

    async def ListFeatures(self, request: pb.ListFeaturesRequest, caller: Caller) -> pb.ListFeaturesResponse:
        raise_if_any([*check_query(request.text, request.page_size), *_check_kind(request.kind)])
        found = self.release.catalogue.search_features(
            request.text,
            steerable_only=request.steerable_only,
            include_rare=request.include_rare,
            kind=request.kind,
        )
        chosen = f"{request.steerable_only} {request.include_rare} {request.kind}"
        query = f"{self.release.version} features {chosen} {request.text}"
        size = request.page_size or DEFAULT_FEATURES
        features, next_token = page_of(found, size, request.page_token, query, self.max_message_bytes)
        return pb.ListFeaturesResponse(
            features=features,
            next_page_token=next_token,
            total_size=len(found),
            bundle_version=self.release.version,
        )

    async def GetFeature(self, request: pb.GetFeatureRequest, caller: Caller) -> pb.GetFeatureResponse:
        features = self.release.catalogue.features
        if request.bundle_version:
            self.release.controls.check_version("bundle_version", request.bundle_version, request.id)
        if request.id >= len(features):
            raise NotFound(f"id: there is no feature {request.id}; there are {len(features)}, from 0")
        return pb.GetFeatureResponse(feature=features[request.id], bundle_version=self.release.version)

    async def ListConcepts(self, request: pb.ListConceptsRequest, caller: Caller) -> pb.ListConceptsResponse:
        raise_if_any(list(check_query(request.text, request.page_size)))
        found = self.release.catalogue.search_concepts(request.text)
        query = f"{self.release.version} concepts {request.text}"
        size = request.page_size or MAX_PAGE_SIZE
        concepts, next_token = page_of(found, size, request.page_token, query, self.max_message_bytes)
        return pb.ListConceptsResponse(
            concepts=concepts,
            bundle_version=self.release.version,
            next_page_token=next_token,
            total_size=len(found),
        )


def _check_kind(kind: pb.FeatureKind) -> Iterator[FieldViolation]:
    if kind not in pb.FeatureKind.values():
        yield FieldViolation("kind", f"{kind} is no kind of features; known: {', '.join(pb.FeatureKind.keys())}")
