"""Runs one client in the test's own process."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import grpc

from steersman_loadtest.audit import Audit, Auditor
from steersman_loadtest.histories import Histories
from steersman_loadtest.mix import Mix
from steersman_loadtest.preparation import prepare
from steersman_loadtest.record import CallRecord
from steersman_loadtest.run_statistics import RunStatistics
from steersman_loadtest.scenario import Scenario
from steersman_loadtest.sender import RunOrder, Sender
from steersman_loadtest.traffic import Traffic
from steersman_loadtest.users import Users

TOLERANCE = 1e-5


class Ran(NamedTuple):
    """What came of a run."""

    figures: RunStatistics
    records: list[CallRecord]
    audit: Audit


def prepared(address: str, histories: Histories | None, **mix: Any) -> Scenario:
    with grpc.insecure_channel(address) as channel:
        return prepare(channel, address, Mix(users=5, **mix), histories, seed=0, timeout_seconds=10)


def mixed(scenario: Scenario, **mix: Any) -> Scenario:
    """The same with another mix."""
    return replace(scenario, mix=replace(scenario.mix, **mix))


async def run(
    scenario: Scenario,
    *,
    rate: float = 100.0,
    seconds: float = 1.0,
    address: str | None = None,
    audit_seconds: float = 20.0,
    taking: Callable[[list[CallRecord]], None] = lambda records: None,
    **order: Any,
) -> Ran:
    """`taking` is called with records as they are handed on, on the event loop that sends."""
    figures, taken = RunStatistics("test", rate, seconds), []

    async def hand_on(records: list[CallRecord]) -> None:
        taking(records)
        taken.extend(records)

    rng = random.Random(0)
    users = Users(scenario.histories.item_ids, scenario.mix.users, 1000, f"test-{uuid4()}", rng)
    settings = {"poisson": False, "offset": 0.5, "seed": 0, "checked": 1.0, "timeout_seconds": 10.0, **order}
    async with grpc.aio.insecure_channel(address or scenario.address) as channel:
        sender = Sender(channel, Traffic(scenario, TOLERANCE, users, "test", rng), hand_on)
        usage = await sender.run(RunOrder(start=time.monotonic() + 0.05, seconds=seconds, rate=rate, **settings))
        figures.take(taken)
        figures.finish([usage])
        audit = await Auditor(channel, scenario.info.limits.session_events, TOLERANCE, audit_seconds).audit(users.all)
    return Ran(figures, taken, audit)
