"""How threads of OpenMP wait for each other, as libgomp itself says when it is loaded."""

import os
import subprocess
import sys

import pytest

from steersman_service.cli.main import bound_spinning

SCRIPT = "from steersman_service.cli.main import bound_spinning; bound_spinning(); import torch"


def loaded(environment: dict[str, str]) -> str:
    inherited = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**inherited, "OMP_DISPLAY_ENV": "verbose", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stderr


def test_threads_that_wait_sleep_soon() -> None:
    assert "GOMP_SPINCOUNT = '1000'" in loaded({})


@pytest.mark.parametrize("told", [{"GOMP_SPINCOUNT": "77"}, {"OMP_WAIT_POLICY": "passive"}])
def test_unless_the_environment_says_otherwise(told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    bound_spinning()
    assert {name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ} == told
