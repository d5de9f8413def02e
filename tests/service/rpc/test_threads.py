"""What a thread is scheduled as. That gRPC's threads wait for a free core: tests/e2e/test_serve_apart.py."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from steersman_service.rpc.threads import patient


def test_a_policy_that_somebody_has_chosen_stays() -> None:
    def chosen() -> int:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with patient():
            assert os.sched_getscheduler(0) == os.SCHED_IDLE
        return os.sched_getscheduler(0)

    with ThreadPoolExecutor(1) as another:
        assert another.submit(chosen).result() == os.SCHED_IDLE


def test_a_system_that_does_not_tell_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(thread: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "sched_getscheduler", refuses)
    with patient():
        pass
