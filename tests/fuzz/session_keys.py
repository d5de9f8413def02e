"""Fuzzes what the store holds under a session's keys."""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from redis import Redis, ResponseError

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.session_service_pb2 import (
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    EventKind,
    GetSessionRequest,
    SetControlsRequest,
)
from steersman_service.bundle.bundle import load_bundle
from steersman_service.sessions.store import PARTS
from steersman_service.sessions.valkey import EmbeddedValkey
from tests.fuzz.target import SECONDS, Target
from tests.serving import Running, explain, serving, settings_for

FIELDS = ("version", "total", "mark", "others", "schema", "more")
# What a key of a session may hold instead, or besides.
TAMPERED: Sequence[Callable[[Any, str, bytes], object]] = (
    lambda redis, key, value: redis.set(key, value),
    lambda redis, key, value: redis.rpush(key, value, b"", value[:3]),
    lambda redis, key, value: redis.sadd(key, value),
    lambda redis, key, value: redis.zadd(key, {value: len(value), b"": -1, value[:2]: float("inf")}),
    lambda redis, key, value: redis.xadd(key, {value: value}),
    lambda redis, key, value: redis.hset(key, FIELDS[int.from_bytes(value[:1]) % len(FIELDS)], value[1:]),
    lambda redis, key, value: redis.lset(key, 0, value),
    lambda redis, key, value: redis.persist(key),
)
GONE = 0x80
VALUES = (b"", b"\x00-1", b"\x011e99", b"\x01nan", b"\x049", b"\x04x", b"\xff\xfe")
ID, OTHER = "fuzzed", "another"


@contextmanager
def sessions(bundle: Path) -> Iterator[Target]:
    """The first byte chooses a key of a session, and whether it goes before; the second what is written there: the rest.

    Whatever it is, each call is answered, or refused by a word that names the session; the others stay; and it can be erased, and begun
    anew.
    """
    with _server(bundle) as (server, redis):
        item_ids = [str(item_id) for item_id in load_bundle(bundle, "onnx").items["item_id"].to_pylist()[:4]]
        fuzzed = Fuzzed(server, redis, item_ids)
        shapes = [bytes([key | gone, how]) for key in range(6) for gone in (0, GONE) for how in range(len(TAMPERED))]
        chance = random.Random(5)
        yield Target([shape + chance.choice(VALUES) for shape in shapes], fuzzed.run)


class Fuzzed:
    """A session whose keys are written to, beside one whose keys are not."""

    def __init__(self, server: Running, redis: Any, item_ids: Sequence[str]) -> None:
        self._server, self._redis, self._item_ids = server, redis, item_ids
        kinds = (EventKind.EVENT_KIND_CONSUMED, EventKind.EVENT_KIND_CONSUMED, EventKind.EVENT_KIND_HIDDEN)
        self._events = [Event(event_id=f"e{n}", item_id=item_ids[n], kind=kind) for n, kind in enumerate(kinds)]
        self._begin(OTHER)

    def run(self, data: bytes) -> None:
        self._begin(ID)
        part = PARTS[int.from_bytes(data[:1]) % GONE % len(PARTS)]
        if data[:1] >= bytes([GONE]):
            self._redis.delete(_key(part))
        with suppress(ResponseError):
            TAMPERED[int.from_bytes(data[1:2]) % len(TAMPERED)](self._redis, _key(part), data[2:])
        for call, request in self._asked():
            try:
                answer = call(request, timeout=SECONDS)
            except grpc.RpcError as error:
                _check_refusal(error, request)
            else:
                kept = part in ("meta", "items") or not isinstance(request, GetSessionRequest)
                assert kept or [*answer.session.item_ids][:2] == self._item_ids[:2], f"{part}: events are lost"
        assert self._of(OTHER) == self._item_ids[:2], "another session was changed"
        self._erase()

    def _begin(self, session_id: str) -> None:
        session = self._server.session
        done = session.AppendEvents(AppendEventsRequest(session_id=session_id, events=self._events))
        assert (done.appended, done.session_version, done.total_events) == (3, 1, 2), "it was not begun anew"
        control = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)
        session.SetControls(SetControlsRequest(session_id=session_id, controls=[control]))

    def _of(self, session_id: str) -> list[str]:
        return [*self._server.session.GetSession(GetSessionRequest(session_id=session_id)).session.item_ids]

    def _asked(self) -> Iterator[tuple[Any, Any]]:
        """Calls, and their requests."""
        session, recommend = self._server.session, self._server.recommendation.Recommend
        more, history = Event(event_id="more", item_id=self._item_ids[3]), History(item_ids=self._item_ids)
        yield session.GetSession, GetSessionRequest(session_id=ID)
        yield recommend, RecommendRequest(session_id=ID, k=3)
        yield recommend, RecommendRequest(session_id=ID, k=3, fallback_history=history)
        yield session.AppendEvents, AppendEventsRequest(session_id=ID, events=[more])
        yield recommend, RecommendRequest(session_id=ID, k=3, new_events=[more, *self._events])
        yield session.SetControls, SetControlsRequest(session_id=ID)
        yield session.GetSession, GetSessionRequest(session_id=ID)

    def _erase(self) -> None:
        try:
            self._server.session.DeleteSession(DeleteSessionRequest(session_id=ID))
        except grpc.RpcError as error:
            if "later version" not in explain(error).message:
                raise AssertionError("what cannot be read can be erased") from error
            self._redis.delete(*map(_key, PARTS))
        assert not self._redis.keys(_key("*"))


def _key(part: str) -> str:
    return f"steersman:{{{ID}}}:{part}"


def _check_refusal(error: Any, request: Any) -> None:
    """Nothing is refused that has a fallback, and nothing as a fault."""
    said = explain(error)
    named = said.message.startswith("session_id: ") and repr(ID) in said.message
    controls = said.reason == "INVALID_REQUEST" and all(field.startswith("session.controls") for field in said.fields)
    degradable = isinstance(request, RecommendRequest) and request.HasField("fallback_history")
    if not (controls or (named and not degradable)):
        raise AssertionError(f"{type(request).__name__}: {said}")


@contextmanager
def _server(bundle: Path) -> Iterator[tuple[Running, Any]]:
    """With a client of its store."""
    with tempfile.TemporaryDirectory() as folder:
        valkey = EmbeddedValkey.start(Path(folder, "valkey"))
        try:
            settings = settings_for(Path(folder), bundle, redis_url=valkey.url)
            with Redis.from_url(valkey.url) as redis, serving(settings) as server:
                yield server, redis
        finally:
            valkey.stop()
