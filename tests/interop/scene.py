"""The scene: a server under load, its session store, and a Prometheus that scrapes it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from steersman_service.sessions.valkey import EmbeddedValkey
from tests.interop.load import loaded
from tests.interop.processes import Served, serving
from tests.interop.prometheus import Prometheus, Series, watching


class Watched(NamedTuple):
    """What stands on the scene."""

    prometheus: Prometheus
    server: Served
    store: EmbeddedValkey
    """Not the server's own: it does not bring it back."""
    start: float
    """Unix seconds."""

    def over_the_run(self, expression: str) -> list[Series]:
        """`expression`, from the start until now."""
        return self.prometheus.query(expression, self.start, time.time())


@contextmanager
def watched_server(bundle: Path, folder: Path, **settings: object) -> Iterator[Watched]:
    """Sets the scene, and clears it. Logs and data go to `folder`; `settings` are further ones of the server."""
    with ExitStack() as stack:
        prometheus = stack.enter_context(watching(folder))
        store = EmbeddedValkey.start(folder / "store")
        stack.callback(store.stop)
        given = {"redis_url": store.url, "list_change_sample": 1, **settings}
        server = stack.enter_context(serving(bundle, folder / "server", **given))
        prometheus.watch(server.metrics)
        start = time.time()
        stack.enter_context(loaded(server.address, folder / "load.log"))
        yield Watched(prometheus, server, store, start)
