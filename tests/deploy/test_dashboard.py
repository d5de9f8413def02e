"""The dashboard's shape. What it asks of Prometheus is in test_queries.py."""

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.files import dashboard, read_yaml

COLUMNS = 24
PANELS = dashboard()["panels"]
QUESTIONS = ["Is it healthy?", "Is it fast?", "Who is steering what?", "What does steering do to the lists?"]


def test_it_answers_the_questions_in_order() -> None:
    rows = [panel for panel in PANELS if panel["type"] == "row"]
    assert [row["title"] for row in rows] == QUESTIONS
    assert PANELS[0] is rows[0]
    assert [panel["gridPos"]["y"] for panel in PANELS] == sorted(panel["gridPos"]["y"] for panel in PANELS)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < COLUMNS


def test_the_choice_of_servers_follows_that_of_the_source() -> None:
    source, server = dashboard()["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (server["name"], server["datasource"]["uid"]) == ("instance", "${datasource}")


@pytest.mark.parametrize(
    "panel", [panel for panel in PANELS if panel["type"] != "row"], ids=lambda panel: panel["title"]
)
def test_a_panel_says_what_it_shows_and_asks_the_chosen_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert {each["datasource"]["uid"] for each in [panel, *panel["targets"]]} == {"${datasource}"}


def test_grafana_knows_every_member() -> None:
    """Read and written by Grafana's own models: what they do not know would be lost."""
    register_default_plugins()
    document = dashboard()
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    assert list(_lost(document, known)) == []


def test_what_is_provisioned_is_there() -> None:
    (source,) = read_yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    scrape = read_yaml("prometheus/prometheus.yml")["global"]
    assert source["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    services = read_yaml("compose.yaml")["services"]
    assert source["url"] == "http://prometheus:9090"
    assert any(port.endswith(":9090") for port in services["prometheus"]["ports"])
    (provider,) = read_yaml("grafana/provisioning/dashboards/steersman.yml")["providers"]
    grafana = services["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].startswith(provider["options"]["path"])


def _lost(given: Any, kept: Any, path: str = "") -> Any:
    """Paths of what `given` has and `kept` has not. Empty lists and objects need not be kept."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name in kept:
                yield from _lost(value, kept[name], f"{path}.{name}")
            elif value not in ([], {}, None):
                yield f"{path}.{name}"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _lost(one, other, f"{path}[{number}]")
    elif given != kept:
        yield path
