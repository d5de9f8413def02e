"""The engine's own process: loads it, then answers batches until the server is gone. Started by engine_process.py."""

import gc
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from steersman_service.engine import Engine, Work
from steersman_service.engine_loading import load_engine
from steersman_service.engine_process import Cache, Loaded, Outcome, Refused, receive, send
from steersman_service.errors import StartupError
from steersman_service.logs import configure_logs
from steersman_service.settings import Settings


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


def main(connection: Connection) -> None:
    """Until the other side is gone."""
    # The server says when to stop, by closing the connection: calls in flight need the engine until then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError, EOFError):
        settings: Settings = receive(connection)
        configure_logs(settings.log_level, settings.log_format)
        recorder = Recorder()
        try:
            engine = load_engine(settings, recorder)
        except StartupError as error:
            send(connection, Refused(str(error)))
            return
        # What was loaded stays: to look through it for garbage, again and again, would hold up batches.
        gc.collect()
        gc.freeze()
        send(connection, Loaded(engine.backend.name, engine.backend.device))
        while True:
            send(connection, _outcome(engine, receive(connection), recorder))


def _outcome(engine: Engine, batch: Sequence[Work], recorder: Recorder) -> Outcome:
    try:
        answers: Any = engine.run(batch)
    except Exception:
        answers = traceback.format_exc()
    states, key_values = engine.states, engine.key_values
    return Outcome(
        answers,
        recorder.taken(),
        Cache(states.held_bytes, len(states)),
        Cache(key_values.held_bytes, len(key_values)),
    )


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
