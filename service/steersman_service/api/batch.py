"""BatchRecommend: several requests side by side, each answered or refused on its own."""

import asyncio
from collections.abc import Awaitable, Callable
from random import getrandbits
from typing import Protocol

import structlog
from google.rpc.code_pb2 import Code

from steersman.v1 import recommendation_service_pb2 as pb
from steersman_service.api.caller import Caller
from steersman_service.checks import MAX_REQUEST_ID_BYTES
from steersman_service.errors import FieldViolation, InternalError, InvalidRequest, RequestError, raise_if_any
from steersman_service.sessions.events import Events, Kinds
from steersman_service.sessions.reader import Session

Answer = Callable[[pb.RecommendRequest, Caller], Awaitable[pb.RecommendResponse]]

log = structlog.get_logger()


class SessionVisits(Protocol):
    """Where sessions are appended to and read: a SessionReader, or BatchVisits."""

    async def visit(self, key: str, events: Events, kinds: Kinds | None = None) -> Session | None:
        """`key` is the session's in the store. Raises StoreUnavailable."""


class BatchVisits:
    """Visits of one call: a session is read once for all its requests that append nothing."""

    def __init__(self, sessions: SessionVisits) -> None:
        self._sessions = sessions
        self._reads: dict[str, asyncio.Future[Session | None]] = {}

    async def visit(self, key: str, events: Events, kinds: Kinds | None = None) -> Session | None:
        if events:
            return await self._sessions.visit(key, events, kinds)
        if key not in self._reads:
            self._reads[key] = asyncio.ensure_future(self._sessions.visit(key, events))
        return await self._reads[key]


async def answer_each(
    request: pb.BatchRecommendRequest, caller: Caller, most: int, answer: Answer
) -> pb.BatchRecommendResponse:
    """The result of each request, in their order. Raises InvalidRequest for none of them, or more than `most`."""
    if not 1 <= (count := len(request.requests)) <= most:
        raise_if_any([FieldViolation("requests", f"{count} requests; 1 to {most} are allowed")])
    results = await asyncio.gather(*(_answered(one, caller, answer) for one in request.requests))
    return pb.BatchRecommendResponse(results=results)


async def _answered(request: pb.RecommendRequest, caller: Caller, answer: Answer) -> pb.RecommendResult:
    request_id = (request.request_id or f"{getrandbits(128):032x}")[:MAX_REQUEST_ID_BYTES]
    try:
        response = await answer(request, caller._replace(request_id=request_id))
        return pb.RecommendResult(response=response)
    except RequestError as error:
        return pb.RecommendResult(failure=failure(error, request_id))
    except Exception:
        log.exception("request of a batch failed", request_id=ascii(request_id)[1:-1])
        return pb.RecommendResult(failure=failure(InternalError(), request_id))


def failure(error: RequestError, request_id: str) -> pb.RequestFailure:
    """What the status of a call of its own would say."""
    wrong = error.violations if isinstance(error, InvalidRequest) else ()
    return pb.RequestFailure(
        code=Code.Value(error.code),
        message=error.message,
        reason=error.reason,
        metadata={"request_id": request_id, **error.metadata},
        fields=[pb.FieldProblem(field=field, description=description) for field, description in wrong],
        retry_seconds=error.retry_seconds or 0.0,
    )
