"""What deploy/ holds, parsed."""

import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# What a server needs, beyond the drain, to stop: last answers, the session store.
SPARE_SECONDS = 5
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".+"}


class Query(NamedTuple):
    """What Prometheus is asked."""

    where: str
    """The panel or the alert."""
    expression: str
    """PromQL."""
    legend: str = ""
    """"{{label}}" stands for the value of a label."""


def read_yaml(name: str) -> Any:
    """A file of deploy/ with one document."""
    return yaml.safe_load((DEPLOY / name).read_text())


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/steersman.json").read_text())
    return document


def rules(kind: Literal["alert", "record"]) -> list[dict[str, Any]]:
    """Of every file that Prometheus reads."""
    files = [read_yaml(f"prometheus/{name}") for name in read_yaml("prometheus/prometheus.yml")["rule_files"]]
    return [rule for file in files for group in file["groups"] for rule in group["rules"] if kind in rule]


def queries() -> list[Query]:
    """Of every panel, every alert, every recorded series and the autoscaler. A variable that is not known fails."""
    asked = [Query(rule[kind], rule["expr"]) for kind in ("alert", "record") for rule in rules(kind)]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            filled = re.sub(r"\$\w+", lambda found: VARIABLES[found[0]], target["expr"])
            asked.append(Query(f"{panel['title']} {target['refId']}", filled, target["legendFormat"]))
    for rule in read_yaml("prometheus/adapter.yml")["rules"]:
        filled = (
            rule["metricsQuery"]
            .replace("<<.GroupBy>>", "job, instance")
            .replace("<<.LabelMatchers>>", 'job="steersman"')
        )
        asked.append(Query(rule["name"]["as"], filled))
    return asked


def seconds(text: str) -> float:
    """ "30s", as compose writes it."""
    assert text.endswith("s"), text
    return float(text.removesuffix("s"))
