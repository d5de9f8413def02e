"""Prometheus scrapes a server under load. Each alert fires when its cause is made, and every query has an answer.

The tests stand in the order of the story: causes first, then what is asked about them.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from steersman.v1.session_service_pb2 import GetSessionRequest
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from steersman_client import Client, Scenario, feature
from tests.certificates import Authority
from tests.conftest import make_bundle
from tests.interop.conftest import Show
from tests.interop.dashboard import panels
from tests.interop.load import burst
from tests.interop.picture import draw
from tests.interop.processes import PATIENCE_SECONDS, free_port, scraped, serve_command, serving, standing_still, until
from tests.interop.scene import Watched, watched_server
from tests.service.bundle.test_bundle import resign

pytestmark = pytest.mark.timeout(900)
HEALTHY_SECONDS = 15
WINDOW_SECONDS = 10
CALLERS = 16
METRIC = re.compile(r"\b(?:grpc_server|steersman)_[a-z_]+|\bup\b")


@pytest.fixture(scope="module")
def watched(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched_server(bundle_dir, tmp_path_factory.mktemp("watched")) as watched:
        yield watched


def test_a_healthy_server(watched: Watched, show: Show) -> None:
    ready = "sum_over_time(steersman_ready[5m]) >= " + str(HEALTHY_SECONDS)
    until("Prometheus has scraped for a while", lambda: watched.over_the_run(ready))
    # A slow machine may be slow.
    assert watched.prometheus.firing() <= {"SteersmanLatencyBudget"}
    show(f"alerts: {HEALTHY_SECONDS} s of load on a healthy server: none")


def test_a_store_that_stands_still(watched: Watched, show: Show) -> None:
    names = ("SteersmanRedisDown", "SteersmanDegraded", "SteersmanErrorBudget")
    with standing_still(watched.store.pid):
        show(fires(watched, "Redis stands still", *names, "SteersmanLatencyBudget"))
    end(watched, *names)


def test_a_store_that_is_gone(watched: Watched, show: Show) -> None:
    names = ("SteersmanRedisDown", "SteersmanDegraded", "SteersmanErrorBudget")
    os.kill(watched.store.pid, signal.SIGKILL)
    show(fires(watched, "Redis killed", *names))
    watched.store.revive()
    end(watched, *names)
    show("alerts: Redis started again: they end")


def test_a_full_queue_and_another_bundle(watched: Watched, data_dir: Path, tmp_path: Path, show: Show) -> None:
    other = make_bundle(data_dir, tmp_path, seed=1)
    with serving(other, tmp_path / "server", queue_size=1, max_batch=1) as small, burst(small.address, CALLERS):
        watched.prometheus.watch(watched.server.metrics, small.metrics)
        show(fires(watched, f"a queue of 1, and {CALLERS} callers at once", "SteersmanQueueFull"))
        show(fires(watched, "two servers with two bundles", "SteersmanMixedBundles"))


def test_more_calls_than_may_wait(watched: Watched, bundle_dir: Path, tmp_path: Path, show: Show) -> None:
    with serving(bundle_dir, tmp_path / "server", max_waiting_calls=1) as small, burst(small.address, CALLERS):
        watched.prometheus.watch(watched.server.metrics, small.metrics)
        show(fires(watched, f"one call may wait, and {CALLERS} callers at once", "SteersmanCallsUnseen"))
    watched.prometheus.watch(watched.server.metrics)


def test_a_scenario_that_a_new_bundle_breaks(
    watched: Watched, bundle_dir: Path, data_dir: Path, tmp_path: Path, show: Show
) -> None:
    """It names a feature, and the next bundle does not know the first one."""
    data = tmp_path / "server"
    with serving(bundle_dir, data) as first, Client(first.address, timeout=PATIENCE_SECONDS) as client:
        steerable = next(iter(client.features(steerable_only=True)))
        client.put_scenario(Scenario("home", controls=[feature(steerable, 0.5)]))
    other = make_bundle(data_dir, tmp_path / "other", seed=1)
    with serving(other, data) as second:
        watched.prometheus.watch(watched.server.metrics, second.metrics)
        show(fires(watched, "a bundle under which a scenario cannot be applied", "SteersmanScenariosMoved"))


def test_a_certificate_and_a_bundle_that_are_refused(
    watched: Watched, bundle_dir: Path, tmp_path: Path, show: Show
) -> None:
    """The certificate expires in three days, then its file is spoilt; the link is turned to a folder without a bundle."""
    issued, current = Authority(tmp_path).issue("server", days=3), tmp_path / "current"
    current.symlink_to(bundle_dir)
    doors = {"tls_cert": issued.cert, "tls_key": issued.key, "insecure": "metrics"}
    with serving(current, tmp_path / "server", **doors) as server:
        watched.prometheus.watch(watched.server.metrics, server.metrics)
        show(fires(watched, "a certificate of three days", "SteersmanCertificateExpires"))
        issued.cert.write_text("spoilt")
        current.unlink()
        current.symlink_to(tmp_path)
        show(fires(watched, "a certificate that is spoilt", "SteersmanCertificateRefused"))
        show(fires(watched, "a link to no bundle", "SteersmanBundleRefused"))


def test_broken_golden_rows(watched: Watched, bundle_dir: Path, tmp_path: Path, show: Show) -> None:
    broken = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    golden = dict(np.load(broken / "golden.npz"))
    golden["upper.query_BD"] = golden["upper.query_BD"] + 1
    np.savez(broken / "golden.npz", **golden)
    resign(broken)
    metrics_port = free_port()
    command = serve_command(broken, tmp_path / "server", metrics_port=metrics_port)
    refused = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert refused.returncode == 1
    assert "differs from the golden rows" in refused.stderr
    watched.prometheus.watch(watched.server.metrics, f"127.0.0.1:{metrics_port}")
    show(fires(watched, "golden rows broken, so that the server refuses to start", "SteersmanDown"))


def test_a_drain_that_does_not_end(watched: Watched, bundle_dir: Path, tmp_path: Path, show: Show) -> None:
    patience = {"redis_timeout_seconds": 3600, "drain_seconds": 3600}
    with (
        serving(bundle_dir, tmp_path / "server", **patience) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        watched.prometheus.watch(watched.server.metrics, server.metrics)
        with standing_still(server.store_pid):
            pending = SessionServiceStub(channel).GetSession.future(GetSessionRequest(session_id="s"))
            name, labels = "grpc_server_started_total", {"grpc_method": "GetSession"}
            until("the call has begun", lambda: scraped(server.metrics, name, **labels))
            os.kill(server.pid, signal.SIGTERM)
            show(fires(watched, "a call in flight that holds up the drain", "SteersmanNotReady"))
        assert pending.code() is grpc.StatusCode.NOT_FOUND
    watched.prometheus.watch(watched.server.metrics)


def test_every_alert_has_fired(watched: Watched, show: Show) -> None:
    alerts = watched.prometheus.alerts()

    def fired() -> set[str]:
        return {series.labels["alertname"] for series in watched.over_the_run('ALERTS{alertstate="firing"}')}

    # A query looks at whole seconds: the last alert may have fired within the one that has just begun.
    until("every alert has been on record", lambda: fired() == set(alerts))
    for name, expression in alerts.items():
        assert watched.over_the_run(expression), name
        for metric in METRIC.findall(expression):
            assert watched.over_the_run(metric), f"{name}: {metric}"
    show(f"alerts: all {len(alerts)} have fired; their expressions and metrics have data over the run")


def test_every_query_of_the_dashboard(watched: Watched, show: Show) -> None:
    every = panels(window_seconds=WINDOW_SECONDS, range_seconds=int(time.time() - watched.start))
    queries = [(panel.title, query) for panel in every for query in panel.queries]
    for title, query in queries:
        found = watched.over_the_run(query.expression)
        assert any(np.isfinite(series.values).any() for series in found), f"{title}: {query.expression}"
    show(f"dashboard: all {len(queries)} queries of {sum(bool(panel.queries) for panel in every)} panels have data")


def test_the_picture(watched: Watched, tmp_path: Path, show: Show) -> None:
    count = draw(watched.prometheus, watched.start, time.time(), tmp_path / "dashboard.png")
    show(f"dashboard: {count} panels drawn: {tmp_path / 'dashboard.png'}")


def fires(watched: Watched, cause: str, *names: str) -> str:
    """Waits until the alerts `names` fire. Gives a line for the summary."""
    for name in names:
        until(f"{cause}: {name} fires", lambda name=name: name in watched.prometheus.firing())  # type: ignore[misc]
    return f"alerts: {cause}: {', '.join(names)}"


def end(watched: Watched, *names: str) -> None:
    """Waits until none of the alerts `names` fires."""
    until(f"{', '.join(names)} end", lambda: watched.prometheus.firing().isdisjoint(names))
