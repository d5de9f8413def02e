"""Draws docs/dashboard.png: a server under load, whose session store is killed and brought back on the way.

python -m tests.interop.draw_dashboard --bundle data/bundles/current --out docs/dashboard.png
"""

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from tests.interop.picture import draw
from tests.interop.scene import watched_server
from tests.interop.visits import visited

# Of the run.
GONE_FROM, GONE_UNTIL = 0.5, 0.65


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    out: Annotated[Path, typer.Option(help="Where the picture goes.")],
    seconds: Annotated[float, typer.Option(help="How long the run takes.")] = 120,
) -> None:
    """Run a server under load, stop its Redis for a while, and draw what its dashboard shows."""
    settings = {"http": "on", "http_port": 0}
    with (
        tempfile.TemporaryDirectory() as folder,
        watched_server(bundle, Path(folder), **settings) as watched,
        visited(watched.server.http),
    ):
        time.sleep(seconds * GONE_FROM)
        os.kill(watched.store.pid, signal.SIGKILL)
        time.sleep(seconds * (GONE_UNTIL - GONE_FROM))
        watched.store.revive()
        time.sleep(seconds * (1 - GONE_UNTIL))
        count = draw(watched.prometheus, watched.start, time.time(), out)
    typer.echo(f"{count} panels in {out}")


if __name__ == "__main__":
    typer.run(main)
