"""FeatureService: pages through the catalogue."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from steersman.v1 import feature_service_pb2 as pb
from steersman_service.api.caller import Caller
from steersman_service.api.labels import Labels
from steersman_service.api.pages import MAX_PAGE_SIZE, check_query, page_of
from steersman_service.api.release import Release
from steersman_service.bundle.items import UNKNOWN
from steersman_service.checks import check_bytes, did_you_mean
from steersman_service.errors import FieldViolation, NotFound, raise_if_any

DEFAULT_FEATURES = 50
DEFAULT_NEIGHBOURS, MAX_NEIGHBOURS = 10, 100
MAX_ITEMS = 100
MAX_LABEL_CHARACTERS, MAX_AUTHOR_BYTES = 100, 128
# Categories of Unicode: controls, format characters (some turn the direction of what follows), separators of lines and paragraphs.
UNSEEN = frozenset(("Cc", "Cf", "Zl", "Zp"))


@dataclass(frozen=True)
class FeatureService:
    release: Release
    labels: Labels
    max_message_bytes: int

    async def ListFeatures(self, request: pb.ListFeaturesRequest, caller: Caller) -> pb.ListFeaturesResponse:
        wrong = [*check_query(request.text, request.page_size), *_check_kind(request.kind)]
        raise_if_any(wrong + list(self._check_items(request.item_ids)))
        found = self.release.catalogue.search_features(
            request.text,
            steerable_only=request.steerable_only,
            include_rare=request.include_rare,
            kind=request.kind,
        )
        if request.item_ids:
            found = self.release.neighbours.firing(found, request.item_ids)
        chosen = f"{request.steerable_only} {request.include_rare} {request.kind} {sorted(request.item_ids)}"
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
        if request.bundle_version:
            self.release.controls.check_version("bundle_version", request.bundle_version, request.id)
        return pb.GetFeatureResponse(feature=self._feature(request.id), bundle_version=self.release.version)

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

    async def ListNeighbours(self, request: pb.ListNeighboursRequest, caller: Caller) -> pb.ListNeighboursResponse:
        raise_if_any(list(self._check_neighbours(request)))
        neighbours, size = self.release.neighbours, request.size or DEFAULT_NEIGHBOURS
        if request.WhichOneof("of") == "feature":
            self.release.controls.check_version(
                "feature.bundle_version", request.feature.bundle_version, request.feature.id
            )
            alike, opposed = neighbours.of_feature(request.feature.id, size)
        else:
            alike, opposed = neighbours.of_concept(self.release.catalogue.concept_rows[request.concept], size)
        return pb.ListNeighboursResponse(alike=alike, opposed=opposed, bundle_version=self.release.version)

    async def SetLabel(self, request: pb.SetLabelRequest, caller: Caller) -> pb.SetLabelResponse:
        wrong = [*self._check_version("bundle_version", request.bundle_version), *_check_label(request)]
        raise_if_any(wrong)
        self.release.controls.check_version("bundle_version", request.bundle_version, request.id)
        feature = self._feature(request.id)
        await self.labels.correct(request.id, request.label, caller.author(request.author))
        return pb.SetLabelResponse(feature=feature)

    def _feature(self, feature: int) -> pb.Feature:
        """Raises NotFound."""
        features = self.release.catalogue.features
        if feature >= len(features):
            raise NotFound(f"id: there is no feature {feature}; there are {len(features)}, from 0")
        return features[feature]

    def _check_version(self, field: str, version: str) -> Iterator[FieldViolation]:
        if not version:
            here = f"ListFeatures gives it; this one is {self.release.version}"
            yield FieldViolation(field, f"is empty: say which bundle the id was taken from ({here})")

    def _check_neighbours(self, request: pb.ListNeighboursRequest) -> Iterator[FieldViolation]:
        if request.size > MAX_NEIGHBOURS:
            yield FieldViolation("size", f"{request.size}; at most {MAX_NEIGHBOURS}")
        of = request.WhichOneof("of")
        if not of:
            yield FieldViolation("of", "names no feature and no concept")
        elif why := self.release.neighbours.why_not:
            yield FieldViolation(of, why)
        elif of == "concept" and request.concept not in (rows := self.release.catalogue.concept_rows):
            hint = did_you_mean(request.concept, rows, "ListConcepts gives their names")
            yield FieldViolation("concept", f"unknown concept {request.concept[:100]!r}; {hint}")
        elif of == "feature":
            yield from self._check_feature(request)

    def _check_feature(self, request: pb.ListNeighboursRequest) -> Iterator[FieldViolation]:
        feature, features = request.feature, self.release.catalogue.features
        yield from self._check_version("feature.bundle_version", feature.bundle_version)
        if feature.bundle_version == self.release.version and feature.id >= len(features):
            yield FieldViolation("feature.id", f"unknown feature {feature.id}; there are {len(features)}, from 0")

    def _check_items(self, item_ids: Sequence[str]) -> Iterator[FieldViolation]:
        if len(item_ids) > MAX_ITEMS:
            yield FieldViolation("item_ids", f"{len(item_ids)} ids; at most {MAX_ITEMS}")
            return
        for index, row in enumerate(self.release.items.places(item_ids).tolist()):
            if row == UNKNOWN:
                yield FieldViolation(f"item_ids[{index}]", "is unknown; ListItems finds ids by title")


def _check_label(request: pb.SetLabelRequest) -> Iterator[FieldViolation]:
    if len(request.label) > MAX_LABEL_CHARACTERS:
        yield FieldViolation("label", f"{len(request.label)} characters; at most {MAX_LABEL_CHARACTERS}")
    elif request.label != request.label.strip():
        yield FieldViolation("label", "begins or ends with a space; an empty one brings the automatic label back")
    yield from check_bytes("author", request.author, 0, MAX_AUTHOR_BYTES)
    for field in ("label", "author"):
        text = getattr(request, field).replace("\u200c", "").replace("\u200d", "")  # they join letters, and emoji
        if any(unicodedata.category(character) in UNSEEN for character in text):
            yield FieldViolation(field, "has line breaks, or other characters that control and do not show")


def _check_kind(kind: pb.FeatureKind) -> Iterator[FieldViolation]:
    if kind not in pb.FeatureKind.values():
        yield FieldViolation("kind", f"{kind} is no kind of features; known: {', '.join(pb.FeatureKind.keys())}")
