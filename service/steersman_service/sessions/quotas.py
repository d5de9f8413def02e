"""How many sessions, of how many bytes, a tenant may keep."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from steersman_service.errors import StoreUnavailable, TooManySessionBytes, TooManySessions
from steersman_service.sessions.keys import tenant_of
from steersman_service.sessions.pipeline import Part

PARTS = ("sessions", "bytes", "total")

Call = Callable[[str, Sequence[str], Sequence[Part]], Awaitable[Any]]
"""Function, keys, arguments."""


class Limits(NamedTuple):
    """Of each tenant; 0: any number. Callers without a tenant share one."""

    sessions: int = 0
    bytes: int = 0


UNLIMITED = Limits()


class Quotas:
    """A write to a session asks first, in a call of its own: nothing is asked where there are no limits.

    Counts are close, not exact: writes that run side by side may go past a limit by as many sessions, bytes are those after the last
    write, and a session that is only read lives longer than it is counted.
    """

    def __init__(self, call: Call, limits: Limits, ttl_ms: int) -> None:
        self._call, self._limits, self._ttl_ms = call, limits, ttl_ms

    async def admit(self, session: str) -> None:
        """Raises TooManySessions, TooManySessionBytes or StoreUnavailable."""
        if not any(self._limits):
            return
        arguments: list[Part] = [session, self._ttl_ms, *self._limits]
        outcome = await self._call("admit_session", _keys(session), arguments)
        if outcome == -1:
            raise TooManySessions(self._limits.sessions)
        if outcome == -2:
            raise TooManySessionBytes(self._limits.bytes)

    async def count(self, session: str, keys: Sequence[str]) -> None:
        """After a write. What is not counted now is counted with the next one: a store that does not answer fails nothing."""
        if self._limits.bytes:
            with suppress(StoreUnavailable):
                size = await self._call("measure_session", keys, [])
                await self._call("count_bytes", _keys(session), [session, size, self._ttl_ms])

    async def forget(self, session: str) -> None:
        """After its deletion, whether or not there are limits now. Raises StoreUnavailable."""
        await self._call("forget_session", _keys(session), [session])


def _keys(session: str) -> list[str]:
    # No session has an id that begins with a slash.
    return [f"steersman:{{/tenant/{tenant_of(session)}}}:{part}" for part in PARTS]
