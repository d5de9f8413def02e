"""The scenario that a request names, checked against the served bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steersman.v1.control_pb2 import CONTROL_SOURCE_SCENARIO
from steersman.v1.recommendation_service_pb2 import Composition, Filters, RecommendRequest
from steersman.v1.scenario_service_pb2 import Scenario
from steersman_service.api.release import Release
from steersman_service.checks import check_name, did_you_mean
from steersman_service.errors import FieldViolation, InvalidRequest, raise_if_any
from steersman_service.sessions.scenarios import ScenarioReader
from steersman_service.steering.composition import check_composition
from steersman_service.steering.controls import ParsedControls, violations
from steersman_service.steering.eligibility import check_filters
from steersman_service.steering.policy import beyond_policy


class Placement(NamedTuple):
    """What a scenario brings to a request."""

    version: int
    controls: ParsedControls
    filters: Filters
    composition: Composition


def read_scenario(
    scenario: Scenario, release: Release, max_filter_items: int
) -> tuple[Placement, list[FieldViolation]]:
    """What it brings, and what of it is wrong for the bundle. Raises StaleFeature if nothing is, and it names a feature of another one."""
    controls = release.controls.parse("scenario.controls", CONTROL_SOURCE_SCENARIO, scenario.controls)
    filters, composition, items = scenario.filters, scenario.composition, release.items
    wrong = [
        *violations(controls),
        *check_filters(filters, items, max_filter_items, "scenario.filters"),
        *check_composition(composition, filters, items, max_filter_items, "scenario.composition"),
    ]
    if not wrong:
        release.controls.check_fresh(controls)
    return Placement(scenario.version, controls, filters, composition), wrong


@dataclass(frozen=True)
class Placements:
    release: Release
    reader: ScenarioReader
    max_filter_items: int

    async def of(self, request: RecommendRequest) -> Placement:
        """Raises InvalidRequest for a name that no scenario has, a control that its policy does not allow, or a scenario that does not
        fit the bundle; StoreUnavailable; StaleFeature."""
        name = request.scenario
        raise_if_any(list(check_name("scenario", name)))
        known = await self.reader.get(name)
        if known.scenario is None:
            raise InvalidRequest([FieldViolation("scenario", unknown_scenario(name, known.names))])
        allowed: Sequence[FieldViolation] = ()
        if known.scenario.HasField("policy"):
            allowed = beyond_policy(known.scenario.policy, "controls", request.controls)
        placement, wrong = read_scenario(known.scenario, self.release, self.max_filter_items)
        raise_if_any([*allowed, *wrong])
        return placement


def unknown_scenario(name: str, names: Sequence[str]) -> str:
    return f"there is no scenario {name!r}; {did_you_mean(name, names, 'ListScenarios gives their names')}"
