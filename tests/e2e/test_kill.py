"""kill -9 of the server and of its store: what was acknowledged is there after the next start."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest, Session, SetControlsRequest
from steersman.v1.session_service_pb2_grpc import SessionServiceStub

COMMAND = [sys.executable, "-m", "steersman_service", "serve", "--port", "0", "--metrics-port", "0"]
HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)


@contextmanager
def served(data: Path, bundle: Path) -> Iterator[tuple["subprocess.Popen[str]", SessionServiceStub]]:
    command = [*COMMAND, "--data", str(data), "--bundle", str(bundle), "--log-format", "json", "--engines", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        lines = iter(process.stderr)
        ready = next((line for line in lines if '"ready"' in line), "never ready")
        address = ready.split('"address": "')[1].split('"')[0]
        try:
            with grpc.insecure_channel(address) as channel:
                yield process, SessionServiceStub(channel)
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()


def kill_server(process: "subprocess.Popen[str]", store: int) -> None:
    process.kill()


def kill_both(process: "subprocess.Popen[str]", store: int) -> None:
    process.kill()
    os.kill(store, signal.SIGKILL)


def kill_store_first(process: "subprocess.Popen[str]", store: int) -> None:
    os.kill(store, signal.SIGKILL)
    process.kill()


KILLS: tuple[Callable[["subprocess.Popen[str]", int], None], ...] = (kill_server, kill_both, kill_store_first)


def test_nothing_acknowledged_is_lost(bundle_dir: Path, tmp_path: Path) -> None:
    """Each start finds what was acknowledged before each kill until then, and goes on with a session of its own."""
    events = [Event(event_id=f"e{n}", item_id=f"i{n}") for n in range(100)]
    kept: dict[str, Session] = {}
    for kill in (*KILLS, None):
        with served(tmp_path, bundle_dir) as (process, session):
            for session_id, before in kept.items():
                assert get(session, session_id) == before
                assert list(before.item_ids) == [event.item_id for event in events]
                # The last append may have been sent again by a client that saw no answer: it counts once.
                again = session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events[-3:]))
                assert (again.appended, again.duplicates, again.total_events) == (0, 3, len(events))
            if kill is None:
                break
            own = kill.__name__
            for event in events:
                session.AppendEvents(AppendEventsRequest(session_id=own, events=[event]))
            session.SetControls(SetControlsRequest(session_id=own, controls=[HORROR]))
            kept[own] = get(session, own)
            kill(process, int((tmp_path / "valkey" / "valkey.pid").read_text()))
        assert process.returncode == -signal.SIGKILL
    assert len(kept) == len(KILLS)


def get(session: SessionServiceStub, session_id: str) -> Session:
    found = session.GetSession(GetSessionRequest(session_id=session_id)).session
    found.ClearField("time_to_live")
    return found
