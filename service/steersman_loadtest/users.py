"""Simulated users, whose sessions persist and grow: each appends events and asks for recommendations, in turn."""

import random
from collections import deque
from collections.abc import Iterator, Sequence

from steersman.v1.session_service_pb2 import AppendEventsRequest, AppendEventsResponse, Event
from steersman_loadtest.checks import Check
from steersman_loadtest.record import CallKind, FailedCheck


class User:
    """Sends a history: a part of it at first, then event by event, each acknowledged before the next is sent.

    An append that is not acknowledged is sent again as it was, as the API tells clients to.
    """

    def __init__(self, session_id: str, history: Sequence[str], first: int) -> None:
        self.session_id = session_id
        self.history = history
        self.acknowledged = 0
        """Events whose append was answered."""
        self.pending = 0
        """Events that were sent after those, and are not acknowledged."""
        self._first = first
        self._again = False

    @property
    def finished(self) -> bool:
        return self.acknowledged == len(self.history)

    def append(self) -> AppendEventsRequest:
        """The next events, or those that were not acknowledged."""
        self._again = bool(self.pending)
        self.pending = self.pending or (1 if self.acknowledged else self._first)
        numbers = range(self.acknowledged, self.acknowledged + self.pending)
        events = [Event(event_id=str(number), item_id=self.history[number]) for number in numbers]
        return AppendEventsRequest(session_id=self.session_id, events=events)

    def acknowledge(self, answer: AppendEventsResponse) -> Iterator[FailedCheck]:
        """Takes the answer to `append`. The checks that it fails."""
        sent, self.pending = self.pending, 0
        self.acknowledged += sent
        if answer.appended + answer.duplicates != sent or (answer.duplicates and not self._again):
            detail = f"{answer.appended} appended and {answer.duplicates} known of {sent} sent"
            yield FailedCheck(Check.APPEND, detail)
        if answer.total_events != self.acknowledged:
            yield FailedCheck(Check.APPEND, f"{answer.total_events} in all, {self.acknowledged} acknowledged")


class Users:
    """Active and past users. Each has at most one call in flight."""

    def __init__(
        self, histories: Sequence[Sequence[str]], active: int, most_at_once: int, name: str, rng: random.Random
    ) -> None:
        """`most_at_once` is the most events of an append; `name` begins the ids of sessions."""
        self.all: list[User] = []
        self._histories, self._wanted, self._most_at_once = histories, active, most_at_once
        self._name, self._rng = name, rng
        self._active = 0
        self._idle: deque[User] = deque()
        self._asking: deque[User] = deque()

    def next(self) -> tuple[CallKind, User]:
        """The next call's kind and user: Recommend for a user who has just appended, else an append of the user who was idle longest.

        Adds a user beyond `active` only if all others wait for answers.
        """
        if self._asking:
            return CallKind.SESSION, self._asking.popleft()
        if self._active >= self._wanted and self._idle:
            return CallKind.APPEND, self._idle.popleft()
        return CallKind.APPEND, self._arrive()

    def done(self, kind: CallKind, user: User) -> None:
        """The call of `next` has ended, with an answer or without."""
        if kind is CallKind.APPEND:
            self._asking.append(user)
        elif user.finished:
            self._active -= 1
        else:
            self._idle.append(user)

    def _arrive(self) -> User:
        history = self._rng.choice(self._histories)
        first = self._rng.randint(1, max(1, min(len(history) // 2, self._most_at_once)))
        user = User(f"{self._name}-{len(self.all)}", history, first)
        self.all.append(user)
        self._active += 1
        return user
