"""The dashboard as its JSON says: what each panel asks of Prometheus, and where it stands."""

import json
import re
from typing import Any, NamedTuple

from tests.interop.processes import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "steersman.json"


class Query(NamedTuple):
    """What a panel asks."""

    expression: str
    """With values for the dashboard's variables."""
    legend: str
    """"{{stage}}": the value of a label."""
    instant: bool
    """Only the end of the range is shown."""


class Panel(NamedTuple):
    """One picture of the dashboard."""

    title: str
    kind: str
    """"row", "stat", "timeseries", "table", "bargauge" or "heatmap"."""
    grid: tuple[int, int, int, int]
    """x, y, width and height, in a grid of 24 columns."""
    unit: str
    stacked: bool
    texts: dict[str, str]
    """Shown in place of a value."""
    thresholds: list[tuple[float, str]]
    """Colours from a value on, in rising order."""
    columns: list[str]
    """Of a table, in order."""
    queries: list[Query]


def panels(*, window_seconds: int, range_seconds: int) -> list[Panel]:
    """All panels, for every server, with rates over `window_seconds` of a picture of `range_seconds`."""
    dashboard = json.loads(DASHBOARD.read_text())
    values = {"$__rate_interval": f"{window_seconds}s", "$__range": f"{range_seconds}s", "$instance": ".+"}
    return [_panel(panel, values) for panel in dashboard["panels"]]


def _panel(panel: dict[str, Any], values: dict[str, str]) -> Panel:
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    place = panel["gridPos"]
    mapped = [mapping["options"] for mapping in defaults.get("mappings", []) if mapping["type"] == "value"]
    steps = defaults.get("thresholds", {}).get("steps", [])
    order = [each["options"]["indexByName"] for each in panel.get("transformations", []) if each["id"] == "organize"]
    return Panel(
        title=panel["title"],
        kind=panel["type"],
        grid=(place["x"], place["y"], place["w"], place["h"]),
        unit=defaults.get("unit", ""),
        stacked=defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
        texts={value: shown["text"] for options in mapped for value, shown in options.items()},
        thresholds=[(float("-inf") if step["value"] is None else step["value"], step["color"]) for step in steps],
        columns=sorted(order[0], key=lambda name: int(order[0][name])) if order else [],
        queries=[
            Query(_filled(target["expr"], values), target.get("legendFormat", ""), target.get("instant", False))
            for target in panel.get("targets", [])
        ],
    )


def _filled(expression: str, values: dict[str, str]) -> str:
    """`expression` with values in place of variables. A variable that has none fails."""
    return re.sub(r"\$\w+", lambda found: values[found[0]], expression)
