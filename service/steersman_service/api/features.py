"""FeatureService: pages through the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from steersman.v1 import feature_service_pb2 as pb
from steersman.v1.feature_service_pb2_grpc import FeatureServiceServicer
from steersman_service.api.pages import MAX_PAGE_SIZE, Page, page_of
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.checks import MAX_SEARCH_BYTES, check_bytes
from steersman_service.errors import NotFound, Violation, raise_if_any
from steersman_service.rpc.calls import Context
from steersman_service.steering.controls import ControlReader

Listed = TypeVar("Listed", pb.Feature, pb.Concept)

DEFAULT_FEATURES = 50


@dataclass(frozen=True)
class FeatureService(FeatureServiceServicer):
    version: str
    """The bundle's."""
    catalogue: Catalogue
    controls: ControlReader
    max_message_bytes: int

    async def ListFeatures(self, request: pb.ListFeaturesRequest, context: Context) -> pb.ListFeaturesResponse:
        _check(request)
        found = self.catalogue.search_features(request.text, request.steerable_only)
        page = self._page(request, f"{request.steerable_only} {request.text}", found, DEFAULT_FEATURES)
        return pb.ListFeaturesResponse(
            features=page.listed,
            next_page_token=page.next_token,
            total_size=len(found),
            bundle_version=self.version,
        )

    async def GetFeature(self, request: pb.GetFeatureRequest, context: Context) -> pb.GetFeatureResponse:
        if request.bundle_version:
            self.controls.check_version("bundle_version", request.bundle_version, request.id)
        if request.id >= len(self.catalogue.features):
            raise NotFound(f"id: there is no feature {request.id}; there are {len(self.catalogue.features)}, from 0")
        return pb.GetFeatureResponse(feature=self.catalogue.features[request.id], bundle_version=self.version)

    async def ListConcepts(self, request: pb.ListConceptsRequest, context: Context) -> pb.ListConceptsResponse:
        _check(request)
        found = self.catalogue.search_concepts(request.text)
        page = self._page(request, f"concepts {request.text}", found, MAX_PAGE_SIZE)
        return pb.ListConceptsResponse(
            concepts=page.listed,
            bundle_version=self.version,
            next_page_token=page.next_token,
            total_size=len(found),
        )

    def _page(
        self,
        request: pb.ListFeaturesRequest | pb.ListConceptsRequest,
        query: str,
        found: Sequence[Listed],
        default_size: int,
    ) -> Page[Listed]:
        size = request.page_size or default_size
        return page_of(found, size, request.page_token, f"{self.version} {query}", self.max_message_bytes)


def _check(request: pb.ListFeaturesRequest | pb.ListConceptsRequest) -> None:
    violations = list(check_bytes("text", request.text, 0, MAX_SEARCH_BYTES))
    if request.page_size > MAX_PAGE_SIZE:
        violations.append(Violation("page_size", f"{request.page_size}; at most {MAX_PAGE_SIZE}"))
    raise_if_any(violations)
