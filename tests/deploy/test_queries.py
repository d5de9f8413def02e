"""Dashboard and alerts ask for series that a real server has."""

import re
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, Expr, Matcher, MatchOp, VectorSelector

from steersman_service.telemetry.metrics import HELP
from tests.deploy.files import Query, queries, rules
from tests.serving import serving, settings_for

Series = dict[str, list[dict[str, str]]]
"""Name -> labels of each series."""

Part = TypeVar("Part", bound=Expr)

# Prometheus makes these series itself, and adds these two labels to all.
OF_PROMETHEUS = {"up", "ALERTS", *(rule["record"] for rule in rules("record"))}
OF_TARGETS = {"job", "instance"}
# steersman_ready says whether all of them take calls.
WITHOUT_A_PANEL = {"steersman_workers"}


@pytest.fixture(scope="module")
def exposed(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Series:
    """What a server exposes that has not been called yet."""
    with serving(settings_for(tmp_path_factory.mktemp("server"), bundle_dir)) as server:
        url = f"http://127.0.0.1:{server.ports.metrics}/metrics"
        with urllib.request.urlopen(url) as response:
            text = response.read().decode()
    series: Series = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series[sample.name].append(sample.labels)
    return series


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.where)
def test_a_query_finds_series(query: Query, exposed: Series) -> None:
    labels = set(OF_TARGETS)
    for selector in _parts(query.expression, VectorSelector):
        assert selector.name
        if selector.name in OF_PROMETHEUS:
            continue
        found = exposed.get(selector.name, [])
        for matcher in selector.matchers.matchers:
            if matcher.name not in OF_TARGETS:
                found = [series for series in found if _matches(matcher, series.get(matcher.name, ""))]
        assert found, f"no server has {selector}"
        labels |= found[0].keys()
    grouped = [name for part in _parts(query.expression, AggregateExpr) for name in _grouping(part)]
    shown = re.findall(r"{{(\w+)}}", query.legend)
    assert labels >= {*grouped, *shown}


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.where)
def test_every_alternative_of_a_query_exists(query: Query, exposed: Series) -> None:
    for selector in _parts(query.expression, VectorSelector):
        for matcher in selector.matchers.matchers:
            if matcher.op == MatchOp.Re and matcher.name not in OF_TARGETS and selector.name not in OF_PROMETHEUS:
                values = {series.get(matcher.name, "") for series in exposed[str(selector.name)]}
                for alternative in matcher.value.split("|"):
                    assert any(re.fullmatch(alternative, value) for value in values), alternative


def test_every_metric_is_asked_for() -> None:
    """An operator learns of what has neither a panel nor an alert from nothing but the list of metrics."""
    asked = {selector.name for query in queries() for selector in _parts(query.expression, VectorSelector)}
    families = {re.sub("_(bucket|sum|count)$", "", str(name)) for name in asked} | asked
    assert {name for name in HELP if name not in families} == WITHOUT_A_PANEL


def _parts(expression: str, kind: type[Part]) -> Iterator[Part]:
    """Every part of that kind. Raises ValueError for what is no PromQL."""
    found: list[Part] = []

    def visit(part: Expr) -> None:
        if isinstance(part, kind):
            found.append(part)

    promql_parser.walk(promql_parser.parse(expression), visit)
    yield from found


def _matches(matcher: Matcher, value: str) -> bool:
    if matcher.op == MatchOp.Re:
        return re.fullmatch(matcher.value, value) is not None
    if matcher.op == MatchOp.NotEqual:
        return matcher.value != value
    assert matcher.op == MatchOp.Equal, f"{matcher}: not foreseen"
    return matcher.value == value


def _grouping(part: AggregateExpr) -> list[str]:
    return part.modifier.labels if part.modifier else []
