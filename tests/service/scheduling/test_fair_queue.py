"""Nobody starves, nothing is lost, and each tenant's requests keep their order."""

from collections import Counter, defaultdict
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.scheduling.fair_queue import REQUEST_POSITIONS, TURN_POSITIONS, FairQueue
from steersman_service.scheduling.latency import NOTHING, Load

LONGEST = TURN_POSITIONS - REQUEST_POSITIONS


class Job(NamedTuple):
    tenant: str
    load: Load
    number: int


def job(tenant: str, positions: int, number: int = 0) -> Job:
    return Job(tenant, Load(1, positions), number)


def taken(queue: FairQueue[Job]) -> Job:
    turn = queue.next()
    queue.take(turn)
    return turn


def cost(of: Job) -> float:
    return of.load.positions + REQUEST_POSITIONS


TENANTS = st.sampled_from("abcd")
POSITIONS = st.integers(0, LONGEST)
# A job that is put, or None: one is taken.
STEPS = st.lists(st.one_of(st.none(), st.tuples(TENANTS, POSITIONS)), max_size=60)


@settings(deadline=None)
@given(STEPS)
def test_nothing_is_lost_and_tenants_keep_their_order(steps: list[tuple[str, int] | None]) -> None:
    queue: FairQueue[Job] = FairQueue()
    put, got = defaultdict(list), defaultdict(list)
    for number, step in enumerate(steps):
        if step is not None:
            new = job(*step, number)
            queue.put(new)
            put[new.tenant].append(new)
        elif queue:
            turn = taken(queue)
            got[turn.tenant].append(turn)
        waiting = sum(map(len, put.values())) - sum(map(len, got.values()))
        assert len(queue) == waiting == queue.load.requests
    while queue:
        turn = taken(queue)
        got[turn.tenant].append(turn)
    assert got == put
    assert queue.load == NOTHING


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), POSITIONS), max_size=80), st.integers(0, 40), POSITIONS)
def test_a_trickle_is_served_within_a_turn_of_each_flood(
    flood: list[tuple[str, int]], before: int, positions: int
) -> None:
    queue: FairQueue[Job] = FairQueue()
    for tenant, length in flood:
        queue.put(job(tenant, length))
    for _ in range(min(before, len(flood))):
        taken(queue)
    own = job("trickle", positions)
    queue.put(own)
    others: Counter[str] = Counter()
    while (turn := taken(queue)) is not own:
        others[turn.tenant] += int(cost(turn))
    assert all(positions < 2 * TURN_POSITIONS for positions in others.values())


@settings(deadline=None)
@given(st.integers(1, LONGEST), st.integers(1, LONGEST))
def test_those_who_always_wait_get_equal_shares(of_a: int, of_b: int) -> None:
    """Of what is computed, not of the requests."""
    queue: FairQueue[Job] = FairQueue()
    lengths = {"a": of_a, "b": of_b}
    for tenant, length in lengths.items():
        queue.put(job(tenant, length))
        queue.put(job(tenant, length))
    shares: Counter[str] = Counter()
    for _ in range(200):
        turn = taken(queue)
        shares[turn.tenant] += int(cost(turn))
        queue.put(job(turn.tenant, lengths[turn.tenant]))
        assert abs(shares["a"] - shares["b"]) <= 3 * TURN_POSITIONS


@settings(deadline=None)
@given(st.lists(TENANTS, min_size=1, max_size=30), TENANTS)
def test_who_has_most_gives_way_and_nobody_else(waiting: list[str], newcomer: str) -> None:
    queue: FairQueue[Job] = FairQueue()
    for number, tenant in enumerate(waiting):
        queue.put(job(tenant, 10, number))
    counts = Counter(waiting)
    gone = queue.give_way(newcomer)
    if gone is None:
        assert counts[newcomer] + 1 >= max(counts.values())
        assert len(queue) == len(waiting)
        return
    assert counts[gone.tenant] == max(counts.values()) > counts[newcomer] + 1
    assert gone.number == max(number for number, tenant in enumerate(waiting) if tenant == gone.tenant), "the newest"
    assert len(queue) == len(waiting) - 1


@settings(deadline=None)
@given(st.lists(st.tuples(TENANTS, POSITIONS), min_size=1, max_size=30), TENANTS, POSITIONS)
def test_what_comes_before_is_at_most_what_waits(waiting: list[tuple[str, int]], tenant: str, positions: int) -> None:
    queue: FairQueue[Job] = FairQueue()
    for owner, length in waiting:
        queue.put(job(owner, length))
    before = queue.before(tenant, Load(1, positions))
    own = [length for owner, length in waiting if owner == tenant]
    assert sum(own) - 1e-6 <= before.positions <= queue.load.positions + 1e-6
    assert len(own) - 1e-6 <= before.requests <= queue.load.requests + 1e-6
    if {owner for owner, _ in waiting} <= {tenant}:
        assert before == queue.load


def test_dropping_what_is_not_there_changes_nothing() -> None:
    queue: FairQueue[Job] = FairQueue()
    first, second = job("a", 1), job("a", 1)
    queue.put(first)
    queue.drop(second)
    queue.drop(job("b", 1))
    assert len(queue) == 1
    queue.drop(first)
    queue.drop(first)
    assert not queue
    assert queue.load == NOTHING


def test_concepts_are_at_their_tenants_expense() -> None:
    """Of one who asks for many, a request is followed by as much of the others' work as it took."""
    queue: FairQueue[Job] = FairQueue()
    for number in range(3):
        queue.put(Job("many", Load(1, 0, 32), number))
    for number in range(40):
        queue.put(job("plain", 100, number))
    turns = "".join(taken(queue).tenant[0] for _ in range(40))
    first, second, third = (place for place, tenant in enumerate(turns) if tenant == "m")
    assert min(second - first, third - second) > 2  # 272 positions each, beside 116
