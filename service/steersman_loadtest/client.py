"""A client process: one sender on its own event loop, which executes the orders that the fleet sends through a pipe."""

import asyncio
import gc
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import uvloop

from steersman_client.credentials import open_aio_channel
from steersman_loadtest.audit import Auditor
from steersman_loadtest.scenario import Scenario
from steersman_loadtest.sender import RunOrder, Sender
from steersman_loadtest.target import read_target
from steersman_loadtest.traffic import Traffic
from steersman_loadtest.users import Users

# Reconnect within a second.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class ClientReady(NamedTuple):
    """A process has started."""


class AuditOrder(NamedTuple):
    """Audit all sessions."""

    seconds: float
    """Limit of the whole audit."""


class ClientFailed(NamedTuple):
    """A client failed: a fault of the harness."""

    why: str


def run_client(pipe: Connection, scenario: Scenario, tolerance: float, name: str, seed: int) -> None:
    """Executes orders until the pipe is closed. `name` begins the ids of sessions and requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the fleet's to handle.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(pipe, scenario, tolerance, name, seed))


async def _serve(pipe: Connection, scenario: Scenario, tolerance: float, name: str, seed: int) -> None:
    rng = random.Random(seed)
    limits, mix = scenario.info.limits, scenario.mix
    users = Users(scenario.histories.item_ids, mix.users, limits.events_per_append, name, rng)
    # Writing to a full pipe blocks: one thread writes, not the event loop.
    with ThreadPoolExecutor(1) as writer:

        async def hand_on(message: Any) -> None:
            await asyncio.get_running_loop().run_in_executor(writer, pipe.send, message)

        target = read_target(scenario.address)
        options = [*CHANNEL_OPTIONS, *target.options]
        async with open_aio_channel(target.name, scenario.access, options) as channel:
            sender = Sender(channel, Traffic(scenario, tolerance, users, name, rng), hand_on)
            gc.freeze()  # The scenario is permanent: scanning it for garbage would delay calls.
            await hand_on(ClientReady())
            while (order := await asyncio.to_thread(_received, pipe)) is not None:
                try:
                    if isinstance(order, RunOrder):
                        await hand_on(await sender.run(order))
                    else:
                        auditor = Auditor(channel, limits.session_events, tolerance, order.seconds)
                        await hand_on(await auditor.audit(users.all))
                except Exception as error:
                    await hand_on(ClientFailed(f"{type(error).__name__}: {error}"))


def _received(pipe: Connection) -> RunOrder | AuditOrder | None:
    """The next order; None after the last."""
    try:
        order: RunOrder | AuditOrder = pipe.recv()
    except EOFError:
        return None
    return order
