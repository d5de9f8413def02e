"""Steersman, as `steersman serve` runs it: an embedded Valkey, one inference thread a worker, the defaults otherwise."""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grpc

from bench.peers.client import Generator, Message, Turn, grpc_generator
from bench.peers.contestant import Process, grpc_call
from bench.peers.graphs import K
from bench.peers.served.ranker import Array, Request
from bench.peers.traffic import Session
from steersman.v1 import session_service_pb2 as session_pb
from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from steersman_service.bundle.bundle import Bundle

RECOMMEND = "/steersman.v1.RecommendationService/Recommend"
EVENTS_PER_APPEND = 1000
APPENDS_AT_A_TIME = 32


@dataclass(frozen=True)
class Steersman:
    bundle: Bundle
    work: Path
    """Folder of its own."""
    copies: int = 1
    """Worker processes."""
    options: Sequence[str] = ()
    """Further ones of `steersman serve`."""
    name: str = "steersman"

    def start(self, port: int) -> Process:
        shutil.rmtree(self.work, ignore_errors=True)  # it knows sessions of an earlier run
        command = [
            sys.executable, "-m", "steersman_service", "serve", "--port", str(port), "--metrics-port", "0",
            "--bundle", str(self.bundle.folder), "--data", str(self.work), "--inference-threads", "1", "--log-format", "json",
            "--http", "off",
            *(["--workers", str(self.copies)] if self.copies > 1 else []),
            *self.options,
        ]  # fmt: skip
        return Process(self.name, command, self.work / "log", {})

    def ready(self, port: int) -> bool:
        lines = (self.work / "log").read_text(errors="replace").splitlines()
        return any(json.loads(line).get("event") == "ready" for line in lines if line.startswith("{"))

    def turn(self, request: Request) -> Turn:
        return [self.recommend(self._controls(request), history=request.history)]

    def recommend(
        self,
        controls: Sequence[Control],
        *,
        history: Array | None = None,
        session: str = "",
        new_events: Sequence[session_pb.Event] = (),
    ) -> Message:
        """Of a history's rows, or of a session, after its new events."""
        asked = RecommendRequest(k=K, controls=controls, session_id=session, new_events=new_events)
        if history is not None:
            asked.history.CopyFrom(History(item_ids=self._ids(history)))
        return Message(RECOMMEND, asked.SerializeToString())

    def read(self, answer: bytes) -> tuple[list[int], list[float]]:
        row_of = {item_id: row for row, item_id in enumerate(self._item_ids)}
        items = RecommendResponse.FromString(answer).items
        return [row_of[item.item_id] for item in items], [item.score for item in items]

    def visits(self, sessions: Sequence[Session]) -> list[Sequence[Turn]]:
        return [[self._session_turn(session, request) for request in session.turns] for session in sessions]

    def remember(self, port: int, sessions: Sequence[Session]) -> None:
        asyncio.run(self._remember(port, sessions))

    def generator(self, port: int, connections: int, streams: int) -> Generator:
        return grpc_generator(port, connections, streams)

    def call(self, port: int, message: Message) -> bytes:
        return grpc_call(port, message)

    def _session_turn(self, session: Session, request: Request) -> Turn:
        events = self._events(request.history, len(request.history) - 1)
        return [self.recommend(self._controls(request), session=f"u{session.user}", new_events=events)]

    async def _remember(self, port: int, sessions: Sequence[Session]) -> None:
        waiting = iter(sessions)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = SessionServiceStub(channel)

            async def append() -> None:
                for session in waiting:
                    events = self._events(session.before, 0)
                    for begin in range(0, len(events), EVENTS_PER_APPEND):
                        part = events[begin : begin + EVENTS_PER_APPEND]
                        await stub.AppendEvents(
                            session_pb.AppendEventsRequest(session_id=f"u{session.user}", events=part)
                        )

            async with asyncio.TaskGroup() as group:
                for _ in range(APPENDS_AT_A_TIME):
                    group.create_task(append())

    def _events(self, history: Array, begin: int) -> list[session_pb.Event]:
        item_ids = self._ids(history[begin:])
        return [
            session_pb.Event(event_id=str(number), item_id=item_id) for number, item_id in enumerate(item_ids, begin)
        ]

    def _controls(self, request: Request) -> list[Control]:
        version = self.bundle.version
        return [
            Control(
                feature=FeatureRef(id=int(feature), bundle_version=version),
                operation=OPERATION_ADD,
                strength=strength,
            )
            for feature, _, strength in request.edits_3E.T
        ]

    def _ids(self, rows: Array) -> list[str]:
        ids = self._item_ids
        return [ids[row] for row in rows]

    @cached_property
    def _item_ids(self) -> list[str]:
        return [str(item_id) for item_id in self.bundle.items["item_id"].to_pylist()]
