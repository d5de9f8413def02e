"""Calls the functions that the Lua files beside it define, on the server that has the keys."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from steersman_service.sessions.patience import DEADLINE
from steersman_service.sessions.pipeline import NOT_WAITED, Command, Durability, Library, Part, Pipeline
from steersman_service.sessions.redis_url import StoreUrl
from steersman_service.sessions.servers import Again, Servers, open_servers

# Between attempts, where one server is being replaced by another.
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.1
# That are followed without a pause.
MOST_REDIRECTIONS = 3


class DeadlineTooNear(RedisError):
    """The caller's deadline came before the answer, and before the time that a call may take."""


class StoreFunctions:
    """Calls end within `timeout_seconds`, and by the DEADLINE of the request that they belong to."""

    def __init__(
        self,
        url: StoreUrl,
        timeout_seconds: float,
        durability: Durability = NOT_WAITED,
        pipeline: type[Pipeline] = Pipeline,
    ) -> None:
        self._library = library = Library()
        self._timeout_seconds = timeout_seconds
        self._servers: Servers = open_servers(
            url, timeout_seconds, lambda connect: pipeline(connect, library, timeout_seconds, durability)
        )

    async def call(
        self,
        function: str,
        keys: Sequence[str],
        arguments: Sequence[Part],
        *,
        writes: bool = False,
        probing: bool = False,
    ) -> Any:
        """Raises TimeoutError, and what redis raises: RedisError or OSError.

        `writes`: replicas must have what it changes. `probing` goes through an open breaker.
        """
        command = ("FCALL", f"{self._library.name}_{function}", len(keys), *keys, *arguments)
        until, deadline = time.monotonic() + self._timeout_seconds, DEADLINE.get()
        error: Exception | None = None
        pipeline = self._servers.of(keys[0])
        if pipeline is not None and until < deadline:
            # The pipeline itself keeps the time.
            try:
                return await pipeline.submit(command, until, writes, probing)
            except (RedisError, OSError) as failed:
                error = failed
        return await self._patiently(command, keys[0], min(until, deadline), pipeline, error, writes, probing)

    @property
    def open_breakers(self) -> int:
        """Servers that are not called."""
        return sum(pipeline.breaker.is_open for pipeline in self._servers.pipelines())

    async def probes(self) -> Sequence[str]:
        """Ids of no session, on every primary."""
        with suppress(RedisError, OSError):  # a TimeoutError is one
            async with asyncio.timeout(self._timeout_seconds):
                return await self._servers.probes()
        return await self._servers.probes(known=True)

    async def close(self) -> None:
        """Waits for the calls under way."""
        await self._servers.close()

    async def _patiently(
        self,
        command: Command,
        key: str,
        until: float,
        pipeline: Pipeline | None,
        error: Exception | None,
        writes: bool,
        probing: bool,
    ) -> Any:
        """As `call`, after `error` from `pipeline`: follows redirections and waits for a server that takes over, until `until` (seconds of
        `time.monotonic()`)."""
        limit = asyncio.timeout(max(0.0, until - time.monotonic()))
        pauses = Pauses()
        try:
            async with limit:
                again = Again()
                while True:
                    if error is not None:
                        found = await self._servers.recover(error, pipeline)
                        if found is None:
                            raise error
                        again = found
                        await pauses.before(again)
                    elif until <= time.monotonic():
                        raise DeadlineTooNear
                    try:
                        pipeline = again.pipeline or await self._servers.locate(key)
                        asking = again.pipeline is not None
                        # Others travel with it: they must not lose their connection when its time is over.
                        late = time.monotonic() + self._timeout_seconds
                        return await pipeline.submit(command, late, writes, probing, asking)
                    except (RedisError, OSError) as failed:
                        error = failed
        except TimeoutError:
            if not limit.expired():
                raise
            if error is not None:
                raise error from None
            if DEADLINE.get() <= until:
                raise DeadlineTooNear from None
            raise


class Pauses:
    """Between the attempts of a call."""

    def __init__(self) -> None:
        self._attempts, self._seconds = 0, FIRST_PAUSE_SECONDS

    async def before(self, again: Again) -> None:
        """Redirections are followed at once, unless they go round in circles."""
        self._attempts += 1
        if again.later or self._attempts > MOST_REDIRECTIONS:
            await asyncio.sleep(self._seconds)
            self._seconds = min(2 * self._seconds, LONGEST_PAUSE_SECONDS)
