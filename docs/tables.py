"""Writes the tables between `<!-- table: NAME -->` and `<!-- end -->` in settings.md, runbook.md and runbook/, each from its source.

`make docs` writes them, `make docs-check` fails if they are not what it would write.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric

from steersman_service.api.access import ROLES
from steersman_service.identity.identity import Role
from steersman_service.sessions.reasons import REASONS
from steersman_service.sessions.store import OPERATIONS
from steersman_service.settings import PREFIX, Settings
from steersman_service.telemetry.metrics import Metrics

DOCS = Path(__file__).parent
RUNBOOK = DOCS / "runbook.md"
PAGES = DOCS / "runbook"
RULES = [DOCS.parent / "deploy" / "prometheus" / name for name in ("alerts.yml", "slo.yml")]
# Metrics of the client library: not every system has all of them.
LIBRARY = ("process_", "python_")
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if there is anything to write")
    check = parser.parse_args().check
    tables = {
        DOCS / "settings.md": {"settings": _settings(), "metrics": _metrics()},
        DOCS / "security.md": {"roles": _roles()},
        RUNBOOK: {"alerts": _alerts()},
        PAGES / "SteersmanRedisDown.md": {"store": _store()},
    }
    stale = []
    for page, own in tables.items():
        old = new = page.read_text("utf-8")
        for name, rows in own.items():
            new = _replaced(new, name, "\n".join(rows), page)
        if new != old:
            stale.append(page)
        if not check:
            page.write_text(new, "utf-8")
    if check and stale:
        sys.exit(f"{', '.join(map(str, stale))} is stale: commit what 'make docs' writes")


def _settings() -> Iterator[str]:
    yield from _head("setting", "default", "allowed", "meaning")
    properties: dict[str, dict[str, Any]] = Settings.model_json_schema()["properties"]
    for name, schema in properties.items():
        yield _row(f"`{PREFIX}{name.upper()}`", _default(schema), _allowed(schema), schema["description"])


def _roles() -> Iterator[str]:
    yield from _head("role", "calls")
    for role in Role:
        calls = [call for call, needed in ROLES.items() if needed is role]
        by_service: dict[str, list[str]] = {}
        for service, method in (call.split("/") for call in calls):
            by_service.setdefault(service, []).append(method)
        if by_service:
            yield _row(f"`{role.word}`", "; ".join(f"{name}: {', '.join(each)}" for name, each in by_service.items()))


def _default(schema: dict[str, Any]) -> str:
    value = schema["default"]
    if value is None:
        return "none"
    return f"`{int(value) if isinstance(value, float) and value.is_integer() else value}`"


def _allowed(schema: dict[str, Any]) -> str:
    choices = [schema, *schema.get("anyOf", ())]
    named = [f"`{value}`" for choice in choices for value in choice.get("enum", ())]
    bounds = [f"{words} {choice[bound]:g}" for choice in choices for bound, words in BOUNDS.items() if bound in choice]
    return ", ".join(named or bounds) or "any"


def _metrics() -> Iterator[str]:
    metrics = Metrics()
    # These two have no series before there is a method and a bundle.
    metrics.calls("unary", "", "")
    metrics.declare_store(OPERATIONS, REASONS)
    metrics.bundles([("", "", "", "", "", "")])
    yield from _head("metric", "type", "labels", "meaning")
    for family in metrics.registry.collect():
        if not family.name.startswith(LIBRARY):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield _row(f"`{name}`", family.type, "; ".join(_labels(family)), family.documentation)


def _labels(family: Metric) -> Iterator[str]:
    """Names of labels, with their values where those are known beforehand."""
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le" and value not in values.setdefault(label, []):
                values[label].append(value)
    known = "" not in [value for listed in values.values() for value in listed]
    for label, listed in values.items():
        yield f"`{label}`: {', '.join(listed)}" if known else f"`{label}`"


def _store() -> Iterator[str]:
    yield from _head("reason", "meaning")
    for reason, meaning in REASONS.items():
        yield _row(f"`{reason}`", meaning)


def _alerts() -> Iterator[str]:
    """Each leads to a page of its own."""
    yield from _head("alert", "severity", "after", "meaning")
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        name, meaning = rule["alert"], rule["annotations"]["description"]
        if not (PAGES / f"{name}.md").is_file():
            sys.exit(f"{PAGES} has no page {name}.md that says what to do about that alert")
        yield _row(f"[{name}](runbook/{name}.md)", rule["labels"]["severity"], rule["for"], meaning.strip())


def _head(*columns: str) -> Iterator[str]:
    yield _row(*columns)
    yield _row(*("---" for _ in columns))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _replaced(text: str, name: str, table: str, page: Path) -> str:
    begin, end = f"<!-- table: {name} -->\n", "\n<!-- end -->"
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2]
    if not (found and after):
        sys.exit(f"{page} has no place for the table of {name}: {begin.strip()} to {end.strip()}")
    return f"{before}{begin}{table}{end}{after}"


if __name__ == "__main__":
    main()
