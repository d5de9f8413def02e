"""Many writers to one session, over random schedules of faults; what callers saw is checked.

    python -m bench.consistency --store cluster --wait 1 --schedules 20

A schedule has a session of its own, and faults drawn by its seed: mild ones (functions flushed, connections killed, memory full,
a slot moved) and failovers (primary killed, hung, handed over). Prints a line for each, and the sum. Without failovers every rule
has to hold; with them and --wait for all replicas no acknowledged event may be lost. Exit code 1 if a promise was broken, with the
seeds that show it.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.consistency.faults import Store, opened
from bench.consistency.history import NEVER, Verdict, check
from bench.consistency.workload import Workload
from steersman_service.sessions.pipeline import Durability
from steersman_service.telemetry.logs import configure_logs

FRONT_ENDS, WRITERS, READERS = 3, 8, 3
WAIT_MS = 500


class Outcome(NamedTuple):
    """Of one schedule."""

    seed: int
    faults: Sequence[str]
    acknowledged: int
    unanswered: int
    """Events that were given up."""
    reads: int
    failed_calls: int
    longest_gap_seconds: float
    verdict: Verdict


async def run_schedule(store: Store, seed: int, *, faults: int, failovers: bool, wait: int) -> Outcome:
    """`wait`: so many replicas must have an event before it is acknowledged."""
    random_ = random.Random(seed)
    session = f"consistency-{seed}-{random.getrandbits(32):x}"
    workload = Workload(store.url, session, seed, front_ends=FRONT_ENDS, durability=Durability(wait, WAIT_MS))
    known = {**store.mild, **(store.failovers if failovers else {})}
    # Half of them are failovers, where there are any.
    names = [
        random_.choice(list(store.failovers if failovers and store.failovers and random_.random() < 0.5 else known))
        for _ in range(faults)
    ]
    async with workload.running(WRITERS, READERS):
        for name in names:
            await asyncio.sleep(0.2 + 0.3 * random_.random())
            await asyncio.to_thread(known[name], random_, f"steersman:{{{session}}}:meta")
        await asyncio.to_thread(store.heal)
        await asyncio.sleep(0.7)  # an open breaker tries again
    final = await workload.final()
    await workload.close()
    acknowledged = sum(append.acknowledged < NEVER for append in workload.appends)
    return Outcome(
        seed,
        names,
        acknowledged,
        len(workload.appends) - acknowledged,
        len(workload.reads),
        workload.failed_calls,
        workload.longest_gap_seconds,
        check(workload.appends, workload.reads, final),
    )


def broken(outcome: Outcome, store: Store, failovers: bool, wait: int) -> bool:
    """Whether a promise was."""
    if not failovers:
        return not outcome.verdict.linear
    verdict = outcome.verdict if wait >= store.replicas else outcome.verdict._replace(lost=0)
    return not verdict.kept_promises


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.consistency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", choices=["standalone", "sentinel", "cluster"], default="cluster")
    parser.add_argument("--schedules", type=int, default=10)
    parser.add_argument("--faults", type=int, default=4, help="of a schedule")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    parser.add_argument("--wait", type=int, default=0, help="replicas that must have an event (WAIT)")
    parser.add_argument("--mild", action="store_true", help="no failovers")
    given = parser.parse_args()
    configure_logs("critical", "console")
    failovers = not given.mild and given.store != "standalone"
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="steersman-") as folder, opened(given.store, Path(folder)) as store:
        for seed in range(given.seed, given.seed + given.schedules):
            outcome = asyncio.run(run_schedule(store, seed, faults=given.faults, failovers=failovers, wait=given.wait))
            outcomes.append(outcome)
            print(_line(outcome), flush=True)
    total = Verdict(*map(sum, zip(*(outcome.verdict for outcome in outcomes), strict=True)))
    print(
        f"{given.store}, wait for {given.wait}: {len(outcomes)} schedules, {sum(o.acknowledged for o in outcomes)} events acknowledged,"
        f" {sum(o.unanswered for o in outcomes)} given up, {sum(o.reads for o in outcomes)} reads,"
        f" {sum(o.failed_calls for o in outcomes)} calls failed;"
        f" longest time without an acknowledgement {max(o.longest_gap_seconds for o in outcomes):.1f} s"
    )
    print("  " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in total._asdict().items()))
    failed = [outcome.seed for outcome in outcomes if broken(outcome, store, failovers, given.wait)]
    if failed:
        sys.exit(f"broken promises with seeds {failed}")


def _line(outcome: Outcome) -> str:
    wrong = ", ".join(f"{name} {count}" for name, count in outcome.verdict._asdict().items() if count)
    return (
        f"seed {outcome.seed}: {outcome.acknowledged} acknowledged, {outcome.failed_calls} failed calls, gap"
        f" {outcome.longest_gap_seconds:.1f} s; {wrong or 'nothing wrong'}; {', '.join(outcome.faults)}"
    )


if __name__ == "__main__":
    main()
