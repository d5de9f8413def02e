"""The fleet: the client processes, which run and audit together."""

import multiprocessing
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self, TypeVar

from steersman_loadtest.audit import Audit
from steersman_loadtest.client import AuditOrder, ClientFailed, ClientReady, run_client
from steersman_loadtest.errors import LoadTestError
from steersman_loadtest.record import CallRecord
from steersman_loadtest.scenario import Scenario
from steersman_loadtest.sender import RunOrder, Usage

# Between the order and the start of a run.
HEAD_START_SECONDS = 0.3
# Limits: for the start of a process, and for its answer after the last call of a run has timed out.
START_SECONDS = 120.0
GRACE_SECONDS = 30.0
TICK_SECONDS = 0.2
END_SECONDS = 2.0

Message = TypeVar("Message", ClientReady, Usage, Audit)


@dataclass(frozen=True)
class SendOptions:
    """How calls are sent and checked."""

    poisson: bool = True
    """Random arrivals (Poisson), or evenly spaced ones."""
    seed: int = 0
    checked: float = 1.0
    """Share of the answers that are checked, 0 to 1."""
    tolerance: float = 1e-5
    """Of scores, relative to their scale."""
    timeout_seconds: float = 5.0
    """Of each call."""


class Fleet:
    """Processes are spawned, since gRPC does not survive a fork. The parent only collects their records."""

    def __init__(self, scenario: Scenario, sending: SendOptions) -> None:
        self.name = f"loadtest-{uuid.uuid4().hex[:8]}"
        """Prefix of the ids of all sessions and requests."""
        self._scenario, self._sending = scenario, sending
        self._clients: list[tuple[SpawnProcess, Connection]] = []
        self._runs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, pipe in self._clients:
            pipe.close()
        for process, _ in self._clients:
            process.join(END_SECONDS if kind is None else 0)
            if process.is_alive():
                process.terminate()
                process.join()

    @property
    def size(self) -> int:
        return len(self._clients)

    def grow(self, count: int = 1) -> None:
        """Starts client processes, and waits until they are ready."""
        context = multiprocessing.get_context("spawn")
        for _ in range(count):
            name = f"{self.name}-{self.size}"
            seed = self._sending.seed + 7919 * self.size
            ours, theirs = context.Pipe()
            arguments = (theirs, self._scenario, self._sending.tolerance, name, seed)
            process = context.Process(target=run_client, args=arguments, name=name, daemon=True)
            process.start()
            theirs.close()
            self._clients.append((process, ours))
        self._collect(ClientReady, START_SECONDS, self._clients[-count:])

    def run(
        self, rate: float, seconds: float, take: Callable[[Iterable[CallRecord]], None], tick: Callable[[float], None]
    ) -> Sequence[Usage]:
        """`rate` calls a second, of all clients together. `take` gets the records, `tick` the seconds since the start.

        Raises LoadTestError if a client ends or does not answer.
        """
        sending, self._runs = self._sending, self._runs + 1
        start = time.monotonic() + HEAD_START_SECONDS
        for index, (_, pipe) in enumerate(self._clients):
            order = RunOrder(
                start=start,
                seconds=seconds,
                rate=rate / self.size,
                poisson=sending.poisson,
                offset=(index + 0.5) / self.size,
                seed=1_000_003 * sending.seed + 1009 * self._runs + index,
                checked=sending.checked,
                timeout_seconds=sending.timeout_seconds,
            )
            self._order(pipe, order)
        limit = seconds + sending.timeout_seconds + GRACE_SECONDS
        return self._collect(Usage, limit, self._clients, take, lambda: tick(time.monotonic() - start))

    def audit(self, seconds: float) -> Audit:
        """Audits all sessions and deletes them. Raises LoadTestError as `run` does."""
        for _, pipe in self._clients:
            self._order(pipe, AuditOrder(seconds))
        total = Audit()
        for audit in self._collect(Audit, seconds + GRACE_SECONDS, self._clients):
            total = total.plus(audit)
        return total

    def _order(self, pipe: Connection, order: RunOrder | AuditOrder) -> None:
        try:
            pipe.send(order)
        except OSError:
            raise LoadTestError("a client process ended unexpectedly") from None

    def _collect(
        self,
        wanted: type[Message],
        limit_seconds: float,
        clients: Iterable[tuple[SpawnProcess, Connection]],
        take: Callable[[Iterable[CallRecord]], None] = lambda records: None,
        tick: Callable[[], None] = lambda: None,
    ) -> list[Message]:
        """One message of the type `wanted` from each client. Passes the records before it to `take`."""
        found: list[Message] = []
        waiting = [pipe for _, pipe in clients]
        deadline = time.monotonic() + limit_seconds
        while waiting:
            if time.monotonic() > deadline:
                raise LoadTestError(f"a client process did not answer within {limit_seconds:.0f} s")
            for pipe in wait(waiting, TICK_SECONDS):
                assert isinstance(pipe, Connection)
                message = self._received(pipe)
                if isinstance(message, wanted):
                    found.append(message)
                    waiting.remove(pipe)
                elif isinstance(message, ClientFailed):
                    raise LoadTestError(f"a client process failed: {message.why}")
                else:
                    take(message)
            tick()
        return found

    def _received(self, pipe: Connection) -> Any:
        try:
            return pipe.recv()
        except (EOFError, OSError):
            raise LoadTestError("a client process ended unexpectedly") from None
