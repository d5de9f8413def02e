"""Tenants share a server and never a session: every call that names one, under the same id."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.explanation_service_pb2 import ExplainRequest
from steersman.v1.recommendation_service_pb2 import BatchRecommendRequest, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import (
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    GetSessionRequest,
    SetControlsRequest,
)
from steersman_service.api.caller import Caller
from steersman_service.api.explanation import ExplanationService
from steersman_service.api.list_change import ListChange
from steersman_service.api.recommendation import RecommendationService
from steersman_service.api.release import Release
from steersman_service.api.sessions import SessionService
from steersman_service.bundle.bundle import Bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.errors import NotFound
from steersman_service.identity.identity import Identity
from steersman_service.scheduling.batcher import Batcher
from steersman_service.sessions.keys import session_key, tenant_of
from steersman_service.sessions.reader import SessionReader
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics
from tests.serving import settings_for

SESSION = "s:1"
NOBODYS, ACME, OTHER = (Caller(tenant=name, identity=Identity(tenant=name)) for name in ("", "acme", "probe"))
CALLERS = (NOBODYS, ACME, OTHER)


class Queue(Batcher):
    async def submit(
        self, request: EngineRequest, deadline: float = float("inf"), tenant: str = "", session: str = ""
    ) -> EngineResult:
        self.session = session
        return await super().submit(request, deadline, tenant, session)


@pytest.fixture
def valkey(tmp_path: Path) -> Any:
    server = EmbeddedValkey.start(tmp_path / "valkey")
    yield server
    server.stop()


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[SessionStore]:
    store = SessionStore(valkey.url, max_events=30, ttl_seconds=1e3, timeout_seconds=20.0, metrics=Metrics())
    yield store
    await store.close()


@pytest.fixture
async def queue(bundle: Bundle) -> AsyncIterator[Queue]:
    queue = Queue(Engine(Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1))), queue_size=8, max_batch=4)
    yield queue
    await queue.close()


async def test_no_call_reaches_the_session_of_another_tenant(
    bundle: Bundle, bundle_dir: Path, queue: Queue, store: SessionStore, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, bundle_dir)
    release = Release.of(bundle, settings)
    reader = SessionReader(store, release.items, max_events=30, limit_bytes=1 << 20)
    change, metrics = ListChange(queue, 0.0, lambda ratio: None), Metrics(collected=False)
    placements = cast(Any, None)
    recommendation = RecommendationService(release, queue, reader, settings, metrics, change, placements)
    sessions, explanation = SessionService(release, store, 100), ExplanationService(recommendation)
    control = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)

    async def recommended(caller: Caller, **fields: Any) -> RecommendResponse:
        return await recommendation.Recommend(RecommendRequest(session_id=SESSION, **fields), caller)

    await sessions.AppendEvents(
        AppendEventsRequest(session_id=SESSION, events=[Event(event_id="1", item_id=release.items.ids[0])]), ACME
    )
    await sessions.SetControls(SetControlsRequest(session_id=SESSION, controls=[control]), ACME)
    assert await store.usable(), "its probes lie in no tenant's sessions"
    for caller in (NOBODYS, OTHER):
        with pytest.raises(NotFound):
            await sessions.GetSession(GetSessionRequest(session_id=SESSION), caller)
        batch = await recommendation.BatchRecommend(
            BatchRecommendRequest(requests=[RecommendRequest(session_id=SESSION)]), caller
        )
        asked = ExplainRequest(request=RecommendRequest(session_id=SESSION))
        explained = await explanation.Explain(asked, caller)
        for answer in (await recommended(caller), batch.results[0].response, explained.recommendation):
            assert answer.history_use.new_session
            assert not answer.applied_controls
        assert not (await sessions.DeleteSession(DeleteSessionRequest(session_id=SESSION), caller)).existed
    # Each appends the same event to a session of its own; what each reads, cached or not, is its own.
    for number, caller in enumerate(CALLERS):
        event = Event(event_id="shared", item_id=release.items.ids[10 + number])
        answer = await recommended(caller, new_events=[event])
        assert answer.history_use.new_session == (caller is not ACME)
    for caller in CALLERS:
        answer = await recommended(caller)
        assert queue.session == session_key(caller.tenant, SESSION)
        assert (answer.session_version, len(answer.applied_controls)) == ((3, 1) if caller is ACME else (1, 0))
    assert (await sessions.DeleteSession(DeleteSessionRequest(session_id=SESSION), NOBODYS)).existed
    kept = [(await sessions.GetSession(GetSessionRequest(session_id=SESSION), each)).session for each in (ACME, OTHER)]
    assert [session.item_ids[-1] for session in kept] == [release.items.ids[11], release.items.ids[12]]
    async with Redis.from_url(valkey.url) as redis:
        tags = {key.partition(b"{")[2].partition(b"}")[0].decode() async for key in redis.scan_iter("steersman:{*")}
    assert {tag for tag in tags if not tag.startswith("/")} == {f"acme/{SESSION}", f"probe/{SESSION}"}
    assert [tenant_of(tag) for tag in (f"acme/{SESSION}", SESSION, "/probe/1")] == ["acme", "", ""]
