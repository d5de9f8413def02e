"""The same calls without a server: a bundle loaded into this process, for notebooks and batch jobs.

The one module of this package that imports `steersman_service` (the extra `service`), and only when a bundle is loaded.
"""

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, TypeVar

from google.protobuf.message import Message

from steersman.v1.explanation_service_pb2 import ExplainRequest
from steersman.v1.recommendation_service_pb2 import BatchRecommendRequest, RecommendRequest
from steersman_client.errors import CallError
from steersman_client.methods import Methods

A = TypeVar("A")

KEPT_SERVICES = ("SessionService", "ScenarioService")
KEPT_FIELDS = ("session_id", "scenario")


def load(folder: str | Path, *, backend: Literal["onnx", "torch"] = "onnx", threads: int = 1) -> "LocalClient":
    """Loads the bundle in `folder`, verified, onto the CPU or, with torch, a GPU if there is one.

    Its client answers as a server does that serves the bundle, but keeps neither sessions nor scenarios. `threads` compute a batch.
    Raises ImportError without the extra `service`, and StartupError of `steersman_service.errors` for a bundle that must not be served.
    """
    try:
        from steersman_service.settings import load_settings
    except ImportError as error:
        raise ImportError(
            f"a bundle is loaded by the extra service: pip install 'steersman[service]' ({error})"
        ) from error
    settings = load_settings(
        bundle=Path(folder),
        backend=backend,
        inference_threads=threads,
        engines=0,
        stall_seconds=float("inf"),
        list_change_sample=0.0,
    )
    return LocalClient(settings)


class LocalClient(Methods):
    """Answers from a bundle in this process; `load` makes it. May be used by several threads, and where an event loop runs (Jupyter)."""

    def __init__(self, settings: Any) -> None:
        """`settings` are the server's."""
        self._loop, self._stack = asyncio.new_event_loop(), AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="steersman", daemon=True)
        self._thread.start()
        self._handlers: dict[str, object] = {}
        try:
            self._handlers = self._wait(_opened(settings, self._stack))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forgets the bundle. A client that is not closed ends with its process."""
        if not self._thread.is_alive():
            return
        self._wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, method: str, request: Message, answer: type[Message]) -> Any:
        from steersman_service.api.caller import Caller
        from steersman_service.errors import RequestError

        service, name = method.split("/")
        if service in KEPT_SERVICES or any(_names_what_is_kept(request)):
            _refuse()
        handler: Callable[..., Coroutine[Any, Any, Any]] | None = getattr(self._handlers[service], name, None)
        if handler is None:
            raise CallError("UNIMPLEMENTED", f"{method}: the installed service has no such call", "UNKNOWN_METHOD")
        caller = Caller(request_id=getattr(request, "request_id", "") or uuid.uuid4().hex)
        try:
            return self._wait(handler(request, caller))
        except RequestError as error:
            raise _failed(error) from None

    def _wait(self, coroutine: Coroutine[Any, Any, A]) -> A:
        if self._loop.is_closed():
            coroutine.close()
            raise ValueError("this client was closed; load the bundle again")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class _NoStore:
    """Stands where a server has its session store."""

    def __getattr__(self, operation: str) -> Callable[..., NoReturn]:
        return _refuse


async def _opened(settings: Any, stack: AsyncExitStack) -> dict[str, object]:
    """The handlers of every service, by its name."""
    from steersman_service.api.handlers import Shared, handlers
    from steersman_service.api.release import Release
    from steersman_service.api.releases import OneRelease
    from steersman_service.processes.front_end import opened_backend
    from steersman_service.telemetry.metrics import Metrics

    metrics = Metrics(collected=False)
    backend = await opened_backend(settings, [], metrics, asyncio.Event(), stack)
    store: Any = _NoStore()
    release = Release.of(backend.bundle, settings)
    return handlers(release, backend, Shared.of(settings, metrics, store, OneRelease.of(release))).services


def _names_what_is_kept(request: Message) -> Iterable[bool]:
    if isinstance(request, RecommendRequest):
        yield any(getattr(request, field) for field in KEPT_FIELDS)
    elif isinstance(request, ExplainRequest):
        yield from _names_what_is_kept(request.request)
    elif isinstance(request, BatchRecommendRequest):
        for each in request.requests:
            yield from _names_what_is_kept(each)


def _refuse(*arguments: object, **named: object) -> NoReturn:
    kept = "sessions, scenarios and corrected labels are kept by a server"
    why = f"{kept}: start one (steersman serve) and use Client, or give the history itself"
    raise CallError("FAILED_PRECONDITION", why, "NEEDS_SERVER")


def _failed(error: Any) -> CallError:
    """From a RequestError."""
    fields = {wrong.field: wrong.description for wrong in getattr(error, "violations", ())}
    return CallError(error.code, error.message, error.reason, fields, error.metadata, error.retry_seconds)
