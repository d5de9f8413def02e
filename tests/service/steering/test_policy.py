"""Policies of scenarios: which controls a request may add."""

from typing import Any

import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef, Goal, ItemSet
from steersman.v1.scenario_service_pb2 import Policy, PolicyRule
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.steering.policy import beyond_policy, check_policy

NAN = float("nan")
CONTROLS = {
    "concept": Control(concept="genres:Horror"),
    "attribute": Control(attribute=AttributeRef(name="genres", value="Horror")),
    "number": Control(attribute=AttributeRef(name="year")),
    "feature": Control(feature=FeatureRef(id=1, bundle_version="?")),
    "items": Control(items=ItemSet(item_ids=["1"])),
    "words": Control(words="slow crime"),
    "nothing": Control(),
}
RULES: list[tuple[PolicyRule, set[str]]] = [
    (PolicyRule(concept="genres:Horror"), {"concept"}),
    (PolicyRule(concept="genres:*"), {"concept"}),
    (PolicyRule(concept=""), {"concept"}),
    (PolicyRule(concept="genres:Hor"), set()),
    (PolicyRule(concept="year*"), set()),
    (PolicyRule(attribute=AttributeRef(name="genres")), {"attribute"}),
    (PolicyRule(attribute=AttributeRef(name="genres", value="Horror")), {"attribute"}),
    (PolicyRule(attribute=AttributeRef(name="genres", value="War")), set()),
    (PolicyRule(attribute=AttributeRef()), {"attribute", "number"}),
    (PolicyRule(any_feature=True), {"feature"}),
    (PolicyRule(any_feature=False), set()),
    (PolicyRule(any_items_or_words=True), {"items", "words"}),
    (PolicyRule(any_items_or_words=False), set()),
    (PolicyRule(), set()),
]


@pytest.mark.parametrize(("rule", "fits"), RULES)
def test_what_a_rule_allows(rule: PolicyRule, fits: set[str]) -> None:
    policy = Policy(rules=[rule])
    for name, control in CONTROLS.items():
        assert (beyond_policy(policy, "controls", [control]) == []) == (name in fits)


def test_how_far() -> None:
    policy = Policy(
        rules=[PolicyRule(concept="genres:*", most_strength=0.3), PolicyRule(concept="genres:Horror", most_strength=1)]
    )

    def why(name: str, strength: float, **more: Any) -> list[str]:
        control = Control(concept=name, operation=OPERATION_ADD, strength=strength, **more)
        return [f"{one.field}: {one.description}" for one in beyond_policy(policy, "controls", [Control(), control])][
            1:
        ]

    assert why("genres:Horror", -1) == why("genres:War", 0.3) == []
    (far,) = why("genres:Horror", -1.5)
    assert far.startswith("controls[1].strength: 1.5 is beyond")
    assert far.endswith("at most 1")
    assert "at most 0.3" in why("genres:War", 0.30001)[0]
    # The server may go up to 2 for a goal that says no strength.
    assert "2 is beyond" in why("genres:Horror", 0, goal=Goal(least_overlap=0.5))[0]
    assert why("genres:Horror", 1, goal=Goal(least_overlap=0.5)) == []
    assert "allows none" in beyond_policy(Policy(), "controls", [Control()])[0].description
    assert "concept genres:*" in beyond_policy(policy, "controls", [Control()])[0].description


WRONG: list[tuple[PolicyRule, str, str]] = [
    (PolicyRule(), "p.rules[0]", "names no concept"),
    (PolicyRule(concept="genres:Horor"), "p.rules[0].concept", "did you mean genres:Horror"),
    (PolicyRule(concept="genre:*"), "p.rules[0].concept", "fits no concept"),
    (PolicyRule(attribute=AttributeRef(name="genre")), "p.rules[0].attribute.name", "did you mean genres"),
    (PolicyRule(attribute=AttributeRef(value="War")), "p.rules[0].attribute.value", "name of its attribute"),
    (PolicyRule(attribute=AttributeRef(name="genres", value="?")), "p.rules[0].attribute.value", "no item"),
    (PolicyRule(any_feature=False), "p.rules[0].any_feature", "allows nothing"),
    (PolicyRule(any_items_or_words=False), "p.rules[0].any_items_or_words", "allows nothing"),
    (PolicyRule(any_feature=True, most_strength=NAN), "p.rules[0].most_strength", "nan"),
    (PolicyRule(any_feature=True, most_strength=-1), "p.rules[0].most_strength", "between"),
    (PolicyRule(any_feature=True, most_strength=11), "p.rules[0].most_strength", "10"),
]


@pytest.mark.parametrize(("rule", "field", "why"), WRONG)
def test_wrong_policies(bundle: Bundle, items: Items, rule: PolicyRule, field: str, why: str) -> None:
    (wrong,) = check_policy(Policy(rules=[rule]), Catalogue(bundle, items), items, 10.0, "p")
    assert wrong.field == field
    assert why in wrong.description


def test_right_policies(bundle: Bundle, items: Items) -> None:
    rules = [
        PolicyRule(concept=""),
        PolicyRule(concept="*"),
        PolicyRule(concept="genres:*", most_strength=10),
        PolicyRule(attribute=AttributeRef()),
        PolicyRule(attribute=AttributeRef(name="year")),
        PolicyRule(any_feature=True),
    ]
    catalogue = Catalogue(bundle, items)
    assert check_policy(Policy(rules=rules), catalogue, items, 10.0, "p") == []
    assert check_policy(Policy(rules=rules * 20), catalogue, items, 10.0, "p")[0].field == "p.rules"
