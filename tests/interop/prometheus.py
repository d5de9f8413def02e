"""A real Prometheus that runs `deploy/prometheus` at a pace at which a test can wait for it."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from tests.interop.processes import PATIENCE_SECONDS, ROOT, last_lines, started, until

DEPLOYED = ROOT / "deploy" / "prometheus"
JOB = "steersman"
INTERVAL = "1s"
# What the `for:` of a rule and the windows of its expression are cut to.
HOLD, WINDOW = "2s", "10s"
# "[5m]", and not a character class of a matcher.
WINDOWS = re.compile(r"\[\d\w*(?=[]:])")


class Series(NamedTuple):
    """One line of an answer."""

    labels: dict[str, str]
    times: NDArray[np.float64]
    """Unix seconds."""
    values: NDArray[np.float64]


class Prometheus:
    """What is asked of a running Prometheus over its HTTP API. A query that it refuses raises AssertionError."""

    def __init__(self, address: str, targets: Path) -> None:
        self._address = address
        self._targets = targets

    def watch(self, *metrics: str) -> None:
        """Scrapes these servers (host:port), and no others, from now on."""
        # Prometheus sees the file change: it must never see half of it.
        draft = self._targets.with_suffix(".draft")
        draft.write_text(json.dumps([{"targets": metrics}]))
        draft.rename(self._targets)

    def query(self, expression: str, start: float, end: float, step: float = 1.0) -> list[Series]:
        """`expression` from `start` to `end` (Unix seconds), a value every `step` seconds."""
        data = self._get("query_range", query=expression, start=start, end=end, step=step)
        return [_series(found["metric"], found["values"]) for found in data["result"]]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {each["labels"]["alertname"] for each in self._get("alerts")["alerts"] if each["state"] == "firing"}

    def alerts(self) -> dict[str, str]:
        """Expressions by the name of their alert, as they run."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return {rule["name"]: rule["query"] for rule in rules if rule["type"] == "alerting"}

    def _get(self, what: str, **parameters: object) -> Any:
        url = f"http://{self._address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"Prometheus refuses {parameters or what}: {error.read().decode()}") from error


@contextmanager
def watching(folder: Path) -> Iterator[Prometheus]:
    """Prometheus on a free port, with the configuration and the rules of `deploy/prometheus`, hastened."""
    targets, log = folder / "targets.json", folder / "prometheus.log"
    targets.write_text("[]")
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    for name in config["rule_files"]:
        rules = yaml.safe_load((DEPLOYED / name).read_text())
        (folder / name).write_text(yaml.safe_dump(hastened(rules)))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(pointed(config, targets)))
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with started([*command, "--web.listen-address=127.0.0.1:0"], log) as process:

        def address() -> str:
            assert process.poll() is None, f"Prometheus does not start:\n{last_lines(log)}"
            found = re.search(r'"Listening on" address=(\S+)', log.read_text())
            return found[1] if found and "ready to receive" in log.read_text() else ""

        yield Prometheus(until("Prometheus listens", address), targets)


def pointed(config: dict[str, Any], targets: Path) -> dict[str, Any]:
    """`config`, with quick scrapes of what the file `targets` names in place of what it would discover."""
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == JOB)
    kept = {name: value for name, value in job.items() if not name.endswith("_sd_configs")}
    kept["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": INTERVAL}]
    pace = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
    return {**config, "global": {**config["global"], **pace}, "scrape_configs": [kept]}


def hastened(rules: dict[str, Any]) -> dict[str, Any]:
    """`rules` that need not hold for minutes, over windows of seconds. Nothing else of an expression is touched."""
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["expr"] = WINDOWS.sub(f"[{WINDOW}", rule["expr"])
        if "for" in rule:
            rule["for"] = HOLD
    return rules


def _series(labels: dict[str, str], samples: Sequence[tuple[float, str]]) -> Series:
    times, values = zip(*samples, strict=True)
    return Series(labels, np.array(times, np.float64), np.array(values, np.float64))
