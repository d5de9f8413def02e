"""The folder of the engines' sockets. The rest: tests/e2e."""

import stat
import tempfile
from pathlib import Path

import pytest

from steersman_service.errors import StartupError
from steersman_service.processes.supervisor import private_folder


def test_the_sockets_folder_is_private() -> None:
    with private_folder() as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


def test_a_container_whose_root_is_read_only_has_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tempfile.TemporaryDirectory

    def read_only(prefix: str, dir: str | None) -> object:
        if dir is None:
            raise FileNotFoundError("No usable temporary directory found")
        return made(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryDirectory", read_only)
    with private_folder() as folder:
        assert folder.startswith("/dev/shm/")


def test_no_folder_at_all_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(**options: object) -> object:
        raise PermissionError

    monkeypatch.setattr(tempfile, "TemporaryDirectory", read_only)
    with pytest.raises(StartupError, match="TMPDIR"):
        private_folder()
