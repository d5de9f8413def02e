"""What commands print on a terminal and into a pipe: real ones, of real processes."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

ID, TITLE = "025b413f-8a9a-021e-a648-a7dd0c0ffee5", "A rather long title of a product with colour and size " * 2
SERVICE = f"""
from steersman_service.cli.printing import print_table
print_table(("item", "title"), [({ID!r}, {TITLE!r}), ("[b]", ":books:\\x1b[31m")], foldable=("title",))
"""
TRAINING = f"""
from steersman_training.printing import print_table
print_table(("item", "title"), [({ID!r}, {TITLE!r}), ("[b]", ":books:")], foldable="title")
"""


def on_a_terminal(code: str, columns: int) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=environment | {"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    while part := _read(ours):
        shown += part
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


@pytest.mark.parametrize("code", [SERVICE, TRAINING], ids=["service", "training"])
def test_a_pipe_gets_a_line_a_row(code: str) -> None:
    environment = os.environ | {"COLUMNS": "20"}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert [line for line in shown.splitlines() if ID in line and TITLE.strip() in line]
    assert "[b]" in shown
    assert ":books:" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("code", [SERVICE, TRAINING], ids=["service", "training"])
@pytest.mark.parametrize("columns", [80, 30])
def test_on_a_terminal_titles_fold_and_ids_do_not(code: str, columns: int) -> None:
    shown = on_a_terminal(code, columns)
    assert ID in shown
    assert TITLE.strip() not in shown
    assert "…" not in shown
    assert set("".join(TITLE.split())) <= set(shown)
