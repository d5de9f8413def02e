"""The engine's own process: loads it, then answers batches until nobody is there any more. Started by engine_process.py."""

import gc
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import structlog

from steersman_service.engine.engine import Answer, Engine, Work
from steersman_service.engine.loading import load_engine
from steersman_service.errors import StartupError
from steersman_service.processes.engine_process import BEAT, METRICS
from steersman_service.scheduling.engine_wire import (
    Cache,
    Loaded,
    Outcome,
    Peer,
    Refused,
    Reply,
    Request,
    packed,
    receive,
)
from steersman_service.settings import Settings
from steersman_service.telemetry.families import families
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics

# Who stands still in the middle of a message is waited for this long, once.
PATIENCE_SECONDS = 0.02

log = structlog.get_logger()


class Recorder:
    """An `Observer` that notes what it is told, for one that is in another process."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, tuple[Any, ...]]] = []

    def inference(self, stage: str, seconds: float) -> None:
        self._calls.append(("inference", (stage, seconds)))

    def state_cache(self, hits: int, misses: int) -> None:
        self._calls.append(("state_cache", (hits, misses)))

    def kv_cache(self, hits: int, misses: int) -> None:
        self._calls.append(("kv_cache", (hits, misses)))

    def kv_evicted(self) -> None:
        self._calls.append(("kv_evicted", ()))

    def taken(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What it was told since this was asked last."""
        calls, self._calls = self._calls, []
        return calls


class Desk:
    """Takes batches from every connection, and answers each with its own.

    Batches that wait are computed together, the oldest first, as many as fit into `max_batch` requests, and at most one of a
    connection. Whoever closes, or sends what is no message, is forgotten with all it asked for. Nothing more is taken from one that does
    not read its answers, until it does. Neither keeps the others waiting.
    """

    def __init__(
        self, engine: Engine, max_batch: int, control: socket.socket, recorder: Recorder | None, metrics: Metrics
    ) -> None:
        """What the engine does goes to the `recorder`, and from there along with answers, or, if there is none, into `metrics`."""
        self._engine = engine
        self._max_batch = max_batch
        self._recorder = recorder
        self._metrics = metrics
        self._control = control
        self._peers: dict[int, Peer] = {}
        self._waiting: dict[Peer, Sequence[Work]] = {}
        self._poll = select.poll()
        self._enter(control)

    def serve(self) -> None:
        """Until nobody is there any more."""
        while self._peers:
            self._attend(0 if self._waiting else None)
            while (seconds := self._patience()) > 0:
                self._attend(seconds)
            self._answer(self._next())

    def _attend(self, seconds: float | None) -> None:
        """To everybody who has something to give or to take, or is gone; to the first for at most `seconds`."""
        for file, event in self._poll.poll(None if seconds is None else 1e3 * seconds):
            peer = self._peers[file]
            if event & ~(select.POLLIN | select.POLLOUT):
                self._forget(peer)
                continue
            try:
                peer.flush()
                if event & select.POLLIN:
                    self._obey() if peer.connection is self._control else self._read(peer)
            except (OSError, EOFError):
                self._forget(peer)
            except Exception as error:
                log.error("the engine was sent no message: connection closed", error=repr(error))
                self._forget(peer)
            else:
                self._watch(peer)

    def _patience(self) -> float:
        """How long those are still waited for that are in the middle of a message."""
        moved = [peer.moved for peer in self._peers.values() if peer.halfway]
        return max(moved, default=-PATIENCE_SECONDS) + PATIENCE_SECONDS - time.monotonic()

    def _read(self, peer: Peer) -> None:
        requests: list[Request] | None = peer.read()
        if requests is not None:
            self._waiting[peer] = [request.work() for request in requests]

    def _obey(self) -> None:
        command, files, _, _ = socket.recv_fds(self._control, 1, 1)
        if not command:
            raise EOFError
        if command == METRICS:
            self._peers[self._control.fileno()].write(families(self._metrics.registry))
        if command == BEAT:
            self._peers[self._control.fileno()].write(None)
        for file in files:
            backend, version = self._engine.backend, self._engine.bundle.version
            self._write(self._enter(socket.socket(fileno=file)), Loaded(backend.name, backend.device, version))

    def _next(self) -> dict[Peer, Sequence[Work]]:
        """Whose batches are computed together now."""
        taken: dict[Peer, Sequence[Work]] = {}
        room = self._max_batch
        for peer, batch in self._waiting.items():
            room -= len(batch)
            if taken and room < 0:
                break
            taken[peer] = batch
        for peer in taken:
            del self._waiting[peer]
        return taken

    def _answer(self, batches: dict[Peer, Sequence[Work]]) -> None:
        for peer, answers in zip(batches, self._computed(list(batches.values())), strict=True):
            states, key_values = self._engine.states, self._engine.key_values
            outcome = Outcome(
                answers if isinstance(answers, str) else [Reply.of(answer) for answer in answers],
                self._recorder.taken() if self._recorder else [],
                Cache(states.held_bytes, len(states)),
                Cache(key_values.held_bytes, len(key_values)),
            )
            self._write(peer, outcome)

    def _computed(self, batches: Sequence[Sequence[Work]]) -> Iterator[list[Answer] | str]:
        """The answers to each. What fails together is tried alone: nobody's request fails for another's fault."""
        if not batches:
            return
        try:
            answers = iter(self._engine.run([work for batch in batches for work in batch]))
        except Exception:
            if len(batches) == 1:
                reason = traceback.format_exc()
                if not self._engine.works():
                    log.error("the engine computes nothing any more: it ends", error=reason)
                    sys.exit(1)
                yield reason
                return
            for batch in batches:
                yield from self._computed([batch])
        else:
            for batch in batches:
                yield list(islice(answers, len(batch)))

    def _enter(self, connection: socket.socket) -> Peer:
        peer = Peer(connection)
        self._peers[connection.fileno()] = peer
        self._watch(peer)
        return peer

    def _write(self, peer: Peer, message: Any) -> None:
        try:
            peer.write(message)
        except OSError:
            self._forget(peer)
        else:
            self._watch(peer)

    def _watch(self, peer: Peer) -> None:
        """For what it may do next; that it is gone is heard of in any case."""
        reads = 0 if peer in self._waiting else select.POLLIN
        self._poll.register(peer.connection, select.POLLOUT if peer.unsent else reads)

    def _forget(self, peer: Peer) -> None:
        self._poll.unregister(peer.connection)
        del self._peers[peer.connection.fileno()]
        self._waiting.pop(peer, None)
        peer.connection.close()


def main(control: socket.socket) -> None:
    """Until nobody is there any more."""
    # Whoever needs the engine says when to stop, by closing its connection: calls in flight need it until then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        settings: Settings = receive(control)
    except (OSError, EOFError):
        return
    configure_logs(settings.log_level, settings.log_format)
    # Several servers have one who adds up, and asks the engine, too. One server counts what comes with its answers.
    recorder = None if settings.engine == "shared" else Recorder()
    metrics = Metrics(collected=settings.metrics == "on" and recorder is None)
    try:
        engine = load_engine(settings, recorder or metrics)
    except StartupError as error:
        with suppress(OSError):
            control.sendall(packed(Refused(str(error))))
        return
    metrics.watch_kv_cache(lambda: engine.key_values.held_bytes)
    metrics.watch_state_cache(lambda: engine.states.held_bytes)
    # What was loaded stays: to look through it for garbage, again and again, would hold up batches.
    gc.collect()
    gc.freeze()
    with suppress(OSError):
        control.sendall(packed(Loaded(engine.backend.name, engine.backend.device, engine.bundle.version)))
    Desk(engine, settings.max_batch, control, recorder, metrics).serve()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
