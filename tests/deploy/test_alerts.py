"""What an alert says, and the page that it leads to. That it fires for its cause is in *.test.yml; what it asks is in test_queries.py."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, ROOT, read_yaml, rules

ALERTS = rules("alert")
PAGES = ROOT / "docs" / "runbook"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_leads_to_its_page(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["for"]
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert ROOT / annotations["runbook_url"] == PAGES / f"{alert['alert']}.md"


def test_every_page_is_that_of_an_alert() -> None:
    assert {page.stem for page in PAGES.iterdir()} == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_answers_what_an_operator_asks(page: Path) -> None:
    title, *sections = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    assert title.strip() == f"# {page.stem}"
    assert sections[::2] == SECTIONS
    assert all(text.strip() for text in sections[1::2])


@pytest.mark.parametrize("page", [PAGES.with_suffix(".md"), *sorted(PAGES.glob("*.md"))], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.is_file(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_alert_is_made_to_fire() -> None:
    """With each of its severities."""
    scenes = [scene for path in DEPLOY.glob("prometheus/*.test.yml") for scene in read_yaml(str(path))["tests"]]
    fired = {
        (case["alertname"], expected["exp_labels"]["severity"])
        for scene in scenes
        for case in scene.get("alert_rule_test", [])
        for expected in case.get("exp_alerts", [])
    }
    assert fired == {(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS}


def test_servers_are_scraped_under_the_name_that_the_alerts_use() -> None:
    for name in ("prometheus", "kubernetes"):
        (job,) = read_yaml(f"prometheus/{name}.yml")["scrape_configs"]
        assert job["job_name"] == "steersman"
    (down,) = [alert for alert in ALERTS if alert["alert"] == "SteersmanDown"]
    assert 'up{job="steersman"}' in down["expr"]
