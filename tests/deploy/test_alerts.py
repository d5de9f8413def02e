"""What an alert says. That it fires for its cause is in alerts.test.yml; what it asks is in test_queries.py."""

import re
from typing import Any

import pytest

from tests.deploy.files import ROOT, alerts, read_yaml


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_leads_to_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["for"]
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    page, _, anchor = annotations["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_alert_is_made_to_fire() -> None:
    tests = read_yaml("prometheus/alerts.test.yml")["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    assert fired == {alert["alert"] for alert in alerts()}


def test_servers_are_scraped_under_the_name_that_the_alerts_use() -> None:
    for name in ("prometheus", "kubernetes"):
        (job,) = read_yaml(f"prometheus/{name}.yml")["scrape_configs"]
        assert job["job_name"] == "steersman"
    (down,) = [alert for alert in alerts() if alert["alert"] == "SteersmanDown"]
    assert 'up{job="steersman"}' in down["expr"]
