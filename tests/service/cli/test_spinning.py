"""How threads of OpenMP wait for each other, as libgomp itself says when it is loaded."""

import os
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    ("environment", "spins"),
    [({}, "'1000'"), ({"GOMP_SPINCOUNT": "77"}, "'77'"), ({"OMP_WAIT_POLICY": "passive"}, "'0'")],
)
def test_threads_that_wait_sleep_soon_unless_told_otherwise(environment: dict[str, str], spins: str) -> None:
    assert f"GOMP_SPINCOUNT = {spins}" in loaded(environment)
