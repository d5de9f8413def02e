"""What `make interop` shares, and the summary that it prints: one line for each thing shown.

Plain `make test` does not collect this folder: it needs programs that pip does not bring (see install.sh).
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.processes import Served, serving

Show = Callable[[str], None]
SHOWN = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHOWN] = []
    # A job that is told to end unwinds, and ends what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("shown")
    for line in config.stash[SHOWN]:
        terminalreporter.line(line)


@pytest.fixture
def show(pytestconfig: pytest.Config) -> Show:
    """Adds a line to the summary."""
    return pytestconfig.stash[SHOWN].append


@pytest.fixture(scope="session")
def served(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A healthy server. Calls that wait for a store which stands still wait long enough for a caller to give up."""
    with serving(bundle_dir, tmp_path_factory.mktemp("served") / "data", redis_timeout_seconds=60) as server:
        yield server
