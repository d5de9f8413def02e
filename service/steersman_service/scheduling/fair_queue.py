"""Fair queue: each tenant has a lane of its own, and lanes take turns, so that one tenant's burst does not delay another."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from steersman_service.scheduling.latency import NOTHING, Load

# Costs in positions: of a request, of each feature that its concepts come down to and of each item vector,
# and what a tenant may take in one turn (one or two requests with long histories).
REQUEST_POSITIONS = 16
CONCEPT_FEATURE_POSITIONS = 8
ITEM_VECTOR_POSITIONS = 16
TURN_POSITIONS = 256


class Queued(Protocol):
    """An entry of the queue."""

    @property
    def tenant(self) -> str: ...
    @property
    def load(self) -> Load: ...


Job = TypeVar("Job", bound=Queued)


@dataclass
class _Lane(Generic[Job]):
    jobs: deque[Job] = field(default_factory=deque)
    load: Load = NOTHING
    credit: float = TURN_POSITIONS
    """Positions left in this turn. An overdraft is taken from the next one."""


class FairQueue(Generic[Job]):
    """Surplus round robin (Adiseshu, Parulkar & Varghese, "A Reliable and Scalable Striping Protocol", SIGCOMM 1996), first in first out
    within a tenant.

    Between two turns of a tenant every other one takes at most TURN_POSITIONS and one request. An empty lane is dropped, so there are
    never more lanes than jobs.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, _Lane[Job]] = OrderedDict()
        self._size = 0
        self.load = NOTHING
        """Of the whole queue."""

    def __len__(self) -> int:
        return self._size

    def put(self, job: Job) -> None:
        lane = self._lanes.setdefault(job.tenant, _Lane())
        lane.jobs.append(job)
        lane.load = lane.load.plus(job.load)
        self.load = self.load.plus(job.load)
        self._size += 1

    def next(self) -> Job:
        """The job whose turn it is. It stays in the queue, which must not be empty."""
        while True:
            tenant, lane = next(iter(self._lanes.items()))
            if lane.credit > 0:
                return lane.jobs[0]
            lane.credit += TURN_POSITIONS
            self._lanes.move_to_end(tenant)

    def take(self, job: Job) -> None:
        """Removes the job that `next` gave, and charges its tenant."""
        self._lanes[job.tenant].credit -= _positions(job.load)
        self.drop(job)

    def drop(self, job: Job) -> None:
        """Removes a job, if it is there, without charge."""
        lane = self._lanes.get(job.tenant)
        # By identity: comparing jobs would compare arrays.
        place = next((place for place, other in enumerate(lane.jobs) if other is job), None) if lane else None
        if lane is None or place is None:
            return
        del lane.jobs[place]
        lane.load = lane.load.minus(job.load)
        self.load = self.load.minus(job.load)
        self._size -= 1
        if not lane.jobs:
            del self._lanes[job.tenant]

    def give_way(self, tenant: str) -> Job | None:
        """Removes the newest job of the longest lane, if the lane of `tenant` would still be shorter with one more."""
        longest = max(self._lanes.values(), key=lambda lane: len(lane.jobs), default=None)
        own = self._lanes.get(tenant)
        if longest is None or len(longest.jobs) <= (len(own.jobs) if own else 0) + 1:
            return None
        job = longest.jobs[-1]
        self.drop(job)
        return job

    def before(self, tenant: str, load: Load) -> Load:
        """Load that is taken before a job of `tenant` that would be put now."""
        own = self._lanes.get(tenant)
        before = own.load if own else NOTHING
        reach = _positions(before) + _positions(load) + TURN_POSITIONS
        for other in self._lanes.values():
            if other is not own:
                before = before.plus(other.load.times(min(1.0, reach / _positions(other.load))))
        return before


def _positions(load: Load) -> float:
    return (
        load.positions
        + REQUEST_POSITIONS * load.requests
        + CONCEPT_FEATURE_POSITIONS * load.concept_features
        + ITEM_VECTOR_POSITIONS * load.item_vectors
    )
