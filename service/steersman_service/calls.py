"""What happens around every call: a request id, metrics, the log, and errors turned into statuses."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import structlog

from steersman_service.errors import InternalError, RequestError, grpc_status
from steersman_service.metrics import Metrics

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Awaitable[Any]]

log = structlog.get_logger()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Lets nothing unhandled out: without it grpc sends the text of any exception to the caller."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Waits until no call is in flight."""
        await self._idle.wait()

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        # No handler: an unknown method. Streams are those of health and reflection alone.
        if handler is None or handler.unary_unary is None:
            return handler
        behaviour: Behaviour = handler.unary_unary

        async def call(request: Any, context: Context) -> Any:
            return await self._call(handler_call_details.method, behaviour, request, context)

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)

    async def _call(self, method: str, behaviour: Behaviour, request: Any, context: Context) -> Any:
        request_id = _request_id(request)
        start, code = time.perf_counter(), grpc.StatusCode.OK
        self._metrics.started(method)
        self._running += 1
        self._idle.clear()
        try:
            return await behaviour(request, context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = grpc.StatusCode.UNKNOWN
            raise
        except RequestError as error:
            code = error.status
            await context.abort_with_status(grpc_status(error, request_id))
        except Exception:
            code = grpc.StatusCode.INTERNAL
            log.exception("call failed", method=method, request_id=request_id)
            await context.abort_with_status(grpc_status(InternalError(), request_id))
        finally:
            seconds = time.perf_counter() - start
            self._metrics.handled(method, code, seconds)
            self._running -= 1
            if not self._running:
                self._idle.set()
            log.debug("call", method=method, code=code.name, request_id=request_id, ms=round(1e3 * seconds, 3))


def _request_id(request: Any) -> str:
    """The caller's, or a new one, which a request that has a place for it is given."""
    request_id: str = getattr(request, "request_id", "") or uuid4().hex
    if hasattr(request, "request_id"):
        request.request_id = request_id
    return request_id[:128]
