"""Load: `steersman loadtest` for the bulk of it, and a visitor for the calls that a load test does not make."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import grpc

from steersman.v1.control_pb2 import OPERATION_ADD, OPERATION_SET, Control, FeatureRef
from steersman.v1.feature_service_pb2 import GetFeatureRequest, ListConceptsRequest, ListFeaturesRequest
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2 import (
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    GetSessionRequest,
    SetControlsRequest,
)
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from tests.interop.processes import STEERSMAN, last_lines, started

CALLS_PER_SECOND = 60
MAX_SECONDS = 3600
VISIT_PAUSE_SECONDS = 0.1
CALL_SECONDS = 5.0


class Visitor:
    """Comes, steers with a control that stays, asks, and has the session forgotten; looks into the catalogue beside."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._recommendations, self._sessions = RecommendationServiceStub(channel), SessionServiceStub(channel)
        self._features = FeatureServiceStub(channel)
        self._numbers = count()

    def visit(self) -> None:
        """A visit, and a pause. Raises RpcError at the first call that fails."""
        time.sleep(VISIT_PAUSE_SECONDS)
        session_id = f"visitor-{next(self._numbers)}"
        page = self._features.ListFeatures(ListFeaturesRequest(page_size=1), timeout=CALL_SECONDS)
        feature = self._features.GetFeature(GetFeatureRequest(id=page.features[0].id), timeout=CALL_SECONDS).feature
        concept = self._features.ListConcepts(ListConceptsRequest(), timeout=CALL_SECONDS).concepts[0]
        events = [Event(event_id=item_id, item_id=item_id) for item_id in feature.top_item_ids]
        self._sessions.AppendEvents(AppendEventsRequest(session_id=session_id, events=events), timeout=CALL_SECONDS)
        sticky = Control(concept=concept.name, operation=OPERATION_ADD, strength=0.5)
        self._sessions.SetControls(SetControlsRequest(session_id=session_id, controls=[sticky]), timeout=CALL_SECONDS)
        asked = Control(
            feature=FeatureRef(id=feature.id, bundle_version=page.bundle_version), operation=OPERATION_SET, strength=1
        )
        self._recommendations.Recommend(RecommendRequest(session_id=session_id, controls=[asked]), timeout=CALL_SECONDS)
        self._sessions.GetSession(GetSessionRequest(session_id=session_id), timeout=CALL_SECONDS)
        self._sessions.DeleteSession(DeleteSessionRequest(session_id=session_id), timeout=CALL_SECONDS)


@contextmanager
def loaded(address: str, log: Path) -> Iterator[None]:
    """Load on the server at `address`, whatever becomes of it."""
    pace = ("--rate", str(CALLS_PER_SECOND), "--seconds", str(MAX_SECONDS))
    command: list[str | Path] = [STEERSMAN, "loadtest", "--address", address, *pace]
    with grpc.insecure_channel(address) as channel, started(command, log) as loadtest:
        with repeating(Visitor(channel).visit):
            yield
        assert loadtest.poll() is None, f"the load test ended early:\n{last_lines(log)}"


@contextmanager
def burst(address: str, callers: int) -> Iterator[None]:
    """So many calls at once, each of which takes a while, and again as soon as all have their answers."""
    with grpc.insecure_channel(address) as channel:
        stub = RecommendationServiceStub(channel)
        request = RecommendRequest(controls=[Control(concept="genres:Horror", operation=OPERATION_ADD, strength=1)])

        def visit() -> None:
            for call in [stub.Recommend.future(request, timeout=CALL_SECONDS) for _ in range(callers)]:
                with suppress(grpc.RpcError):
                    call.result()

        with repeating(visit):
            yield


@contextmanager
def repeating(*visits: Callable[[], object]) -> Iterator[None]:
    """Makes each of `visits` again and again, side by side. One that fails is made again like any other."""
    stop = threading.Event()

    def repeat(visit: Callable[[], object]) -> None:
        while not stop.is_set():
            with suppress(grpc.RpcError):
                visit()

    threads = [threading.Thread(target=repeat, args=(visit,)) for visit in visits]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
