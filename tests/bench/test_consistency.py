"""The checker of histories finds what is wrong with them, and nothing is wrong with those of a real store."""

import asyncio
from pathlib import Path

from bench.consistency.__main__ import broken, run_schedule
from bench.consistency.faults import opened
from bench.consistency.history import NEVER, Append, Read, Verdict, check
from steersman_service.telemetry.logs import configure_logs

RIGHT = Verdict(0, 0, 0, 0, 0, 0, 0)
# Two writers: events 1 and 2 one after the other, 3 beside both, 4 never answered and 5 never kept.
APPENDS = [Append(1, 0, 1), Append(2, 2, 3), Append(3, 0, 4), Append(4, 5, NEVER), Append(5, 5, NEVER)]
FINAL = Read(9, 10, 4, (1, 3, 2, 4))
READS = [Read(0, 0.5, 0, ()), Read(1.5, 2, 1, (1,)), Read(1.5, 3, 2, (1, 3)), Read(5, 6, 3, (1, 3, 2))]


def test_a_right_history_is_right() -> None:
    assert check(APPENDS, READS, FINAL) == RIGHT
    assert check([], [], Read(0, 1, 0, ())) == RIGHT


def test_each_wrong_history_is_told_by_its_rule() -> None:
    def final(*events: int) -> Read:
        return FINAL._replace(events=events)

    assert check(APPENDS, [], final(1, 3, 4)) == RIGHT._replace(lost=1, stale=1)
    assert check(APPENDS, [], final(1, 3, 2, 3, 4, 4)) == RIGHT._replace(repeated=2)
    assert check(APPENDS, [], final(1, 3, 2, 7)) == RIGHT._replace(made_up=1)
    assert check(APPENDS, [Read(0, 1, 1, (4,))], final(4, 1, 3, 2)) == RIGHT._replace(made_up=1, reordered=3)
    assert check(APPENDS, [], final(2, 1, 3)) == RIGHT._replace(reordered=1)
    # 3 was seen before 2, and stands behind it at the end; 5 was seen, and is gone.
    assert check(APPENDS, READS[2:3], final(1, 2, 3)) == RIGHT._replace(diverged=1)
    assert check(APPENDS, [Read(7, 8, 4, (1, 3, 2, 5))], FINAL) == RIGHT._replace(diverged=1)
    assert check(APPENDS, [Read(3.5, 4.5, 2, (1, 3))], FINAL) == RIGHT._replace(stale=1)
    assert check(APPENDS, [READS[3], Read(6.5, 7, 2, (1, 3, 2))], FINAL) == RIGHT._replace(turned_back=1)
    # Reads side by side may see either.
    assert check(APPENDS, [READS[3], Read(5.5, 7, 2, (1, 3, 2))], FINAL) == RIGHT


async def test_a_store_whose_connections_fail_keeps_every_rule(tmp_path: Path) -> None:
    configure_logs("critical", "json")
    with opened("standalone", tmp_path) as store:
        outcome = await asyncio.wait_for(run_schedule(store, 3, faults=3, failovers=False, wait=0), 120)
        assert outcome.acknowledged > 30
        assert outcome.reads > 30
        assert not broken(outcome, store, failovers=False, wait=0), outcome
