"""Handlers without a transport: a request message and a Caller in, a response message out."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.feature_service_pb2 import GetFeatureRequest
from steersman.v1.item_service_pb2 import ListItemsRequest
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_service.api.caller import Caller
from steersman_service.api.features import FeatureService
from steersman_service.api.items import ItemService
from steersman_service.api.labels import Labels
from steersman_service.api.list_change import ListChange
from steersman_service.api.recommendation import RecommendationService
from steersman_service.api.release import Release
from steersman_service.bundle.bundle import Bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.errors import DeadlinePassed, InvalidRequest, NotFound
from steersman_service.scheduling.batcher import Batcher
from steersman_service.sessions.labels import LabelStore
from steersman_service.telemetry.metrics import Metrics
from tests.serving import settings_for

HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)


class Queue(Batcher):
    """Remembers how it was asked."""

    async def submit(
        self, request: EngineRequest, deadline: float = float("inf"), tenant: str = "", session: str = ""
    ) -> EngineResult:
        self.asked = deadline, tenant
        return await super().submit(request, deadline, tenant, session)


@pytest.fixture
def release(bundle: Bundle, bundle_dir: Path, tmp_path: Path) -> Release:
    return Release.of(bundle, settings_for(tmp_path, bundle_dir))


@pytest.fixture
async def queue(bundle: Bundle) -> AsyncIterator[Queue]:
    queue = Queue(Engine(Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1))), queue_size=8, max_batch=4)
    yield queue
    await queue.close()


@pytest.fixture
def recommendation(release: Release, queue: Queue, bundle_dir: Path, tmp_path: Path) -> RecommendationService:
    change = ListChange(queue, 0.0, lambda ratio: None)
    settings = settings_for(tmp_path, bundle_dir)
    return RecommendationService(
        release, queue, cast(Any, None), settings, Metrics(collected=False), change, cast(Any, None)
    )


async def test_a_recommendation_carries_the_callers_deadline_tenant_and_request_id(
    recommendation: RecommendationService, release: Release, queue: Queue
) -> None:
    request = RecommendRequest(history=History(item_ids=release.items.ids[:5]), controls=[HORROR], k=3)
    deadline = time.monotonic() + 60
    response = await recommendation.Recommend(request, Caller(deadline, "acme", "r1"))
    assert (len(response.items), response.request_id, response.bundle_version) == (3, "r1", release.version)
    assert response.applied_controls[0].edits
    assert queue.asked == (deadline, "acme")
    await recommendation.Recommend(request, Caller())
    assert queue.asked == (float("inf"), "")


async def test_errors_are_raised_as_they_are(recommendation: RecommendationService, release: Release) -> None:
    with pytest.raises(InvalidRequest, match="k: 5000 items"):
        await recommendation.Recommend(RecommendRequest(k=5000), Caller())
    with pytest.raises(NotFound):
        await FeatureService(release, Labels(release, cast(LabelStore, None)), 1 << 20).GetFeature(
            GetFeatureRequest(id=1000), Caller()
        )


async def test_a_deadline_that_has_passed_is_refused(recommendation: RecommendationService) -> None:
    await recommendation.Recommend(RecommendRequest(), Caller())
    with pytest.raises(DeadlinePassed):
        await recommendation.Recommend(RecommendRequest(), Caller(time.monotonic() - 1))


async def test_items(release: Release) -> None:
    response = await ItemService(release, 1 << 20).ListItems(ListItemsRequest(text="film 59"), Caller())
    assert [item.item_id for item in response.items] == ["159"]
    assert np.isfinite(response.items[0].attributes[-1].number)
