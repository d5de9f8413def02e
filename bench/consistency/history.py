"""What callers of one session saw, and what is wrong with it."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

NEVER = float("inf")


class Append(NamedTuple):
    """One event, sent until it was acknowledged or given up."""

    event: int
    began: float
    """When it was sent first, in seconds."""
    acknowledged: float
    """When the answer came; NEVER: no answer, and it may have been kept all the same."""


class Read(NamedTuple):
    """Everything that the session held."""

    began: float
    ended: float
    version: int
    events: tuple[int, ...]
    """Oldest first."""


class Verdict(NamedTuple):
    """How many times each rule was broken."""

    lost: int
    """Acknowledged events that the session does not hold at the end."""
    repeated: int
    """Events that a read held more than once."""
    made_up: int
    """Events that a read held before they were sent."""
    reordered: int
    """Pairs of events that the session holds at the end in another order, although one was sent after the other was acknowledged."""
    diverged: int
    """Reads that are not the beginning of what the session holds at the end: what they saw, or its order, was undone."""
    stale: int
    """Reads that lack an event that was acknowledged before they began."""
    turned_back: int
    """Reads of a lower version than an earlier one had seen."""

    @property
    def kept_promises(self) -> bool:
        """Those that hold through a failover, too, where acknowledged events are on all replicas."""
        return not (self.lost or self.repeated or self.made_up or self.reordered)

    @property
    def linear(self) -> bool:
        """All rules hold: no caller can tell the store from a single list."""
        return not any(self)


def check(appends: Sequence[Append], reads: Sequence[Read], final: Read) -> Verdict:
    """`final` was read when all was over."""
    acknowledged = {append.event: append.acknowledged for append in appends if append.acknowledged < NEVER}
    sent = {append.event: append.began for append in appends}
    place = {event: number for number, event in enumerate(final.events)}
    everything = [*reads, final]
    return Verdict(
        lost=sum(event not in place for event in acknowledged),
        repeated=sum(count - 1 for read in everything for count in Counter(read.events).values() if count > 1),
        made_up=sum(sent.get(event, NEVER) > read.ended for read in everything for event in read.events),
        reordered=_reordered(sent, acknowledged, place),
        diverged=sum(read.events != final.events[: len(read.events)] for read in reads),
        stale=sum(_is_stale(read, acknowledged) for read in everything),
        turned_back=_turned_back(everything),
    )


def _reordered(sent: dict[int, float], acknowledged: dict[int, float], place: dict[int, int]) -> int:
    """An event must stand behind all that were acknowledged before it was sent."""
    held = [(sent[event], acknowledged.get(event, NEVER), number) for event, number in place.items() if event in sent]
    return sum(
        one_end < other_begin and one_place > other_place
        for (_, one_end, one_place), (other_begin, _, other_place) in itertools.permutations(held, 2)
    )


def _is_stale(read: Read, acknowledged: dict[int, float]) -> bool:
    held = set(read.events)
    return any(time < read.began and event not in held for event, time in acknowledged.items())


def _turned_back(reads: Sequence[Read]) -> int:
    """A read that began after another one had ended must not see an older version."""
    ends = sorted((read.ended, read.version) for read in reads)
    found, seen, newest = 0, 0, 0
    for read in sorted(reads, key=lambda each: each.began):
        while seen < len(ends) and ends[seen][0] < read.began:
            newest = max(newest, ends[seen][1])
            seen += 1
        found += read.version < newest
    return found
