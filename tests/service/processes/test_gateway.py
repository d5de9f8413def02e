"""Whether a server gets a gateway, and where. The rest: tests/e2e/test_serve_http.py."""

import socket
from pathlib import Path

import pytest

from steersman_service.errors import StartupError
from steersman_service.processes import supervisor
from steersman_service.processes.supervisor import reserved_for_http
from tests.serving import settings_for


def test_it_is_there_if_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for told, can_be, there in (("auto", True, True), ("auto", False, False), ("on", True, True), ("off", True, False)):
        monkeypatch.setattr(supervisor, "installed", lambda can_be=can_be: can_be)
        port = reserved_for_http(settings_for(tmp_path, tmp_path, http=told, http_port=0))
        assert (port is not None) == there
        if port:
            port.close()


def test_what_it_needs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "installed", lambda: False)
    with pytest.raises(StartupError, match=r"steersman\[http\]"):
        reserved_for_http(settings_for(tmp_path, tmp_path, http="on", http_port=0))


def test_a_port_that_is_taken_is_told_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match="--http-port 0"):
            reserved_for_http(settings_for(tmp_path, tmp_path, http="on", http_port=port))
