"""The audit: what is lost, what is wrong, and what may be either way."""

import pytest

from steersman.v1.session_service_pb2 import Session
from steersman_loadtest.audit import Audit, events_of
from steersman_loadtest.users import User

HISTORY = [str(number) for number in range(10)]


def session(count: int, kept: int = 100, **changes: object) -> Session:
    return Session(**{"total_events": count, "item_ids": HISTORY[:count][-kept:], **changes})  # type: ignore[arg-type]


def user(acknowledged: int, pending: int = 0) -> User:
    made = User("s", HISTORY, 1)
    made.acknowledged, made.pending = acknowledged, pending
    return made


@pytest.mark.parametrize(
    ("held", "acknowledged", "pending"),
    [
        (session(4), 4, 0),
        (session(4), 4, 2),  # what was not acknowledged did not arrive,
        (session(6), 4, 2),  # or did
        (session(9, kept=3), 9, 0),
        (Session(), 0, 1),
    ],
)
def test_what_was_acknowledged_is_there(held: Session, acknowledged: int, pending: int) -> None:
    assert events_of(held, user(acknowledged, pending), 3 if len(held.item_ids) == 3 else 100) == Audit()


@pytest.mark.parametrize(
    ("held", "acknowledged", "pending", "lost", "wrong"),
    [
        (session(3), 4, 0, 1, 0),
        (Session(), 4, 0, 4, 0),
        (session(4, item_ids=["0", "1", "2"]), 4, 0, 1, 0),  # counted, and not kept
        (session(4, item_ids=["0", "1", "2", "x"]), 4, 0, 1, 0),
        (session(4, item_ids=["0", "2", "1", "3"]), 4, 0, 0, 1),
        (session(5), 4, 0, 0, 1),  # more than were sent
        (session(5), 4, 2, 0, 1),  # a part of an append
        (session(5, item_ids=["0", "1", "2", "3", "3"]), 4, 0, 0, 1),
    ],
)
def test_what_is_missing_and_what_is_wrong(
    held: Session, acknowledged: int, pending: int, lost: int, wrong: int
) -> None:
    assert events_of(held, user(acknowledged, pending), 100) == Audit(lost=lost, wrong=wrong)


def test_failures_add_up() -> None:
    one, other = Audit(sessions=1, acknowledged=5, lost=1), Audit(sessions=2, unread=1, compared=2, different=1)
    assert one.plus(other) == Audit(3, 5, 1, 0, 1, 2, 1)
    assert one.plus(other).failed == 3
    assert not Audit(sessions=3, acknowledged=9, compared=3).failed
