"""The audit after a run: compares the events of every session with those that the server acknowledged."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import grpc

from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2 import DeleteSessionRequest, GetSessionRequest, Session
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from steersman_loadtest.canaries import MARGIN, difference, ranked
from steersman_loadtest.users import User

AT_ONCE = 16
# Sessions of each client process that are asked for recommendations.
COMPARED = 50
K = 10


class Audit(NamedTuple):
    """Counts."""

    sessions: int = 0
    acknowledged: int = 0
    """Events whose append was answered."""
    lost: int = 0
    """Acknowledged events that the session does not have."""
    wrong: int = 0
    """Sessions with other events: repeated, out of order, or never sent."""
    unread: int = 0
    """Sessions that could not be read or compared in time."""
    compared: int = 0
    """Sessions asked for recommendations twice: by their id, and with their events as a history."""
    different: int = 0
    """Sessions whose two answers differ."""

    def plus(self, other: "Audit") -> "Audit":
        return Audit(*map(sum, zip(self, other, strict=True)))

    @property
    def failed(self) -> int:
        """Events and sessions that fail the audit."""
        return self.lost + self.wrong + self.unread + self.different


class Auditor:
    """Reads, compares and deletes sessions. Waits for a server that is unreachable, within the time limit."""

    def __init__(self, channel: grpc.aio.Channel, kept_events: int, tolerance: float, seconds: float) -> None:
        """`kept_events` is what a session keeps; `seconds` is the limit of the whole audit."""
        self._sessions, self._recommendations = SessionServiceStub(channel), RecommendationServiceStub(channel)
        self._kept_events, self._tolerance, self._seconds = kept_events, tolerance, seconds

    async def audit(self, users: Sequence[User]) -> Audit:
        gate = asyncio.Semaphore(AT_ONCE)
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._seconds

        async def one(index: int, user: User) -> Audit:
            async with gate:
                return await self._audit(user, max(0.0, deadline - clock()), compare=index < COMPARED)

        total = Audit()
        for counted in await asyncio.gather(*(one(index, user) for index, user in enumerate(users))):
            total = total.plus(counted)
        return total

    async def _audit(self, user: User, seconds: float, compare: bool) -> Audit:
        counted = Audit(sessions=1, acknowledged=user.acknowledged)
        try:
            session = await self._read(user.session_id, seconds)
            counted = counted.plus(events_of(session, user, self._kept_events))
            if compare:
                counted = counted.plus(Audit(compared=1, different=int(await self._differs(session, seconds))))
            await self._sessions.DeleteSession(DeleteSessionRequest(session_id=user.session_id), timeout=seconds)
        except grpc.aio.AioRpcError:
            return counted._replace(unread=1)
        return counted

    async def _read(self, session_id: str, seconds: float) -> Session:
        """An empty session if the server has none."""
        try:
            request = GetSessionRequest(session_id=session_id)
            return (await self._sessions.GetSession(request, timeout=seconds, wait_for_ready=True)).session
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return Session(session_id=session_id)
            raise

    async def _differs(self, session: Session, seconds: float) -> bool:
        history = History(item_ids=session.item_ids, events_before=session.total_events - len(session.item_ids))
        by_history = RecommendRequest(history=history, k=K + MARGIN)
        by_id = RecommendRequest(session_id=session.session_id, k=K)
        ask = self._recommendations.Recommend
        reference, answer = await ask(by_history, timeout=seconds), await ask(by_id, timeout=seconds)
        return bool(difference(ranked(reference.items), ranked(answer.items), self._tolerance))


def events_of(session: Session, user: User, kept_events: int) -> Audit:
    """`lost` and `wrong` of one session. Events that were not acknowledged may be in it: all of an append, or none."""
    sure, sent = user.acknowledged, user.acknowledged + user.pending
    total = sent if session.total_events == sent else sure
    expected = user.history[:total][-kept_events:]
    missing = Counter(expected) - Counter(session.item_ids)
    lost = max(sure - session.total_events, missing.total())
    return Audit(lost=max(0, lost), wrong=int(not lost and list(session.item_ids) != list(expected)))
