"""Carries runs of a script to Redis: those that come while others are on their way travel together."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

# Pipelines on their way at a time. With one, whoever comes just after it has left would wait for two round trips.
PIPELINES = 2
# Runs in one of them: what comes back is held until the last one has run.
MOST_RUNS = 128

Part = str | int | bytes


class _Run(NamedTuple):
    command: list[Part]
    """What follows the script, or its digest."""
    done: asyncio.Future[Any]
    until: float


class RedisCourier:
    """An idle connection is written to at once; there is no waiting for a pipeline to fill.

    The script is sent again to a server that does not know it, so nothing breaks at a restart, a failover or a flush. It has to be one
    that may be repeated: after a lost connection nobody knows whether it ran. A caller that is cancelled leaves its run on its
    way, and no reply goes to anybody but who asked for it.
    """

    def __init__(self, client: Redis, script: str, timeout_seconds: float) -> None:
        self._client = client
        self._script = script
        self._digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[_Run] = deque()
        self._pipelines: set[asyncio.Task[None]] = set()

    async def run(self, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """The script's answer.

        Raises TimeoutError after `timeout_seconds`, and what redis raises: RedisError or OSError.
        """
        loop = asyncio.get_running_loop()
        run = _Run([len(keys), *keys, *arguments], loop.create_future(), loop.time() + self._timeout_seconds)
        self._waiting.append(run)
        if len(self._pipelines) < PIPELINES:
            task = loop.create_task(self._carry())
            self._pipelines.add(task)
            task.add_done_callback(self._pipelines.discard)
        return await run.done

    async def close(self) -> None:
        """Waits for what is on its way."""
        while self._pipelines:
            await asyncio.wait(self._pipelines)

    async def _carry(self) -> None:
        while self._waiting:
            runs = [self._waiting.popleft() for _ in range(min(MOST_RUNS, len(self._waiting)))]
            try:
                # As long as the first of them may still wait: later ones are not held up by what kept it.
                async with asyncio.timeout_at(min(run.until for run in runs)):
                    replies = await self._execute(runs)
            except Exception as error:
                replies = [error] * len(runs)
            for run, reply in zip(runs, replies, strict=True):
                if run.done.done():
                    continue
                if isinstance(reply, Exception):
                    run.done.set_exception(reply)
                else:
                    run.done.set_result(reply)

    async def _execute(self, runs: Sequence[_Run]) -> list[Any]:
        replies = await self._pipeline("EVALSHA", self._digest, runs)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self._pipeline("EVAL", self._script, [runs[place] for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return replies

    async def _pipeline(self, command: str, script: str, runs: Sequence[_Run]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for run in runs:
                pipeline.execute_command(command, script, *run.command)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies
