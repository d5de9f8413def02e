"""What the server has done so far, from its own metrics, as a little JSON for a page: no Prometheus is needed.

The metrics of all processes are added up behind the metrics port, so that port is asked, as Prometheus would.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import structlog

from steersman_service.errors import MetricsUnavailable, NoMetrics, RequestError

METRICS_PATH = "/metrics.json"
UNIX = "unix:"
# However many pages ask, the metrics port is asked once in this time.
FRESH_SECONDS = 1.0
SCRAPE_SECONDS = 5.0
MOST_BYTES = 16 << 20
RECOMMEND = {"grpc_service": "steersman.v1.RecommendationService", "grpc_method": "Recommend"}
LINE = re.compile(r"(?P<name>\w+)(\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = Mapping[str, str]
log = structlog.get_logger()


class Sample(NamedTuple):
    labels: Labels
    value: float


class Samples:
    """Those of a scrape, by name."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._by_name: dict[str, list[Sample]] = {}
        for line in lines:
            if found := LINE.fullmatch(line):
                labels = dict(LABEL.findall(found["labels"] or ""))
                self._by_name.setdefault(found["name"], []).append(Sample(labels, float(found["value"])))

    def of(self, name: str, wanted: Labels | None = None) -> Iterator[Sample]:
        """Those whose labels have what is `wanted`."""
        for sample in self._by_name.get(name, ()):
            if (wanted or {}).items() <= sample.labels.items():
                yield sample

    def total(self, name: str, wanted: Labels | None = None) -> float:
        return sum(sample.value for sample in self.of(name, wanted))

    def histogram(self, name: str, wanted: Labels | None = None) -> dict[str, Any]:
        """`cumulative` are the observations of at most each of `bounds`; those above the last are in `count` alone."""
        buckets: dict[float, float] = {}
        for labels, value in self.of(f"{name}_bucket", wanted):
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0) + value
        bounds = sorted(bound for bound in buckets if bound != float("inf"))
        return {
            "bounds": bounds,
            "cumulative": [buckets[bound] for bound in bounds],
            **self.sum_and_count(name, wanted),
        }

    def sum_and_count(self, name: str, wanted: Labels | None = None) -> dict[str, Any]:
        return {"sum": self.total(f"{name}_sum", wanted), "count": self.total(f"{name}_count", wanted)}


def traffic(samples: Samples, now: float) -> dict[str, Any]:
    """All counts are since the server's start; docs/http.md says what each is."""
    handled = [sample for sample in samples.of("grpc_server_handled_total") if sample.value]
    born = [sample.value for sample in samples.of("process_start_time_seconds")]
    return {
        "time": now,
        "uptime_seconds": max(0.0, now - min(born)) if born else None,
        "calls": [
            {
                "service": labels["grpc_service"],
                "method": labels["grpc_method"],
                "code": labels["grpc_code"],
                "count": value,
            }
            for labels, value in handled
        ],
        "recommend_seconds": samples.histogram("grpc_server_handling_seconds", RECOMMEND),
        "recommendations": {
            "plain": samples.total("steersman_recommendations_total", {"steered": "false"}),
            "steered": samples.total("steersman_recommendations_total", {"steered": "true"}),
        },
        "list_change": samples.sum_and_count("steersman_list_change_ratio"),
        "queue_wait_seconds": samples.histogram("steersman_queue_wait_seconds"),
        "session_cache": {
            "hits": samples.total("steersman_session_cache_hits_total"),
            "misses": samples.total("steersman_session_cache_misses_total"),
        },
    }


class Traffic:
    """Asks the metrics; remembers the answer, and that there was none, for FRESH_SECONDS."""

    def __init__(self, url: str, token: str = "", context: ssl.SSLContext | None = None) -> None:
        """As those of GatewayOptions."""
        self._url = url
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # The way there leads through no proxy: it is this machine, or one beside it.
        self._open = build_opener(ProxyHandler({}), HTTPSHandler(context=context)).open
        self._answer: dict[str, Any] | RequestError = NoMetrics()
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def read(self) -> dict[str, Any]:
        """Raises NoMetrics or MetricsUnavailable."""
        async with self._asking:
            if self._url and time.monotonic() - self._asked >= FRESH_SECONDS:
                self._answer = await asyncio.to_thread(self._ask)
                self._asked = time.monotonic()
        if isinstance(self._answer, RequestError):
            raise self._answer
        return self._answer

    def _ask(self) -> dict[str, Any] | RequestError:
        try:
            with closing(self._response()) as response:
                text = response.read(MOST_BYTES).decode()
            return traffic(Samples(text.splitlines()), time.time())
        except (OSError, ValueError, LookupError, HTTPException) as error:
            log.warning("metrics not read", error=type(error).__name__)
            return MetricsUnavailable()

    def _response(self) -> Any:
        if not self._url.startswith(UNIX):
            return self._open(Request(self._url, headers=self._headers), timeout=SCRAPE_SECONDS)
        connection = _UnixConnection(self._url.removeprefix(UNIX))
        # It closes the connection with the last byte of the answer.
        connection.request("GET", "/metrics", headers={"connection": "close", **self._headers})
        return connection.getresponse()


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SCRAPE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
