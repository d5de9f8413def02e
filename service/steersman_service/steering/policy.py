"""Policies: which controls a request that names a scenario may add, and how far. No security: callers are not known."""

from collections.abc import Iterable, Iterator, Sequence

from steersman.v1.control_pb2 import Control
from steersman.v1.scenario_service_pb2 import Policy, PolicyRule
from steersman_service.bundle.catalogue import NATURAL_RANGE, Catalogue
from steersman_service.bundle.items import Items
from steersman_service.checks import did_you_mean
from steersman_service.errors import ENOUGH_VIOLATIONS, FieldViolation

MAX_RULES = 100
ANYTHING_AFTER = "*"
ITEMS_OR_WORDS = ("items", "words")


def check_policy(
    policy: Policy, catalogue: Catalogue, items: Items, max_strength: float, path: str
) -> list[FieldViolation]:
    """What is wrong with a policy that is to be kept."""
    if (count := len(policy.rules)) > MAX_RULES:
        return [FieldViolation(f"{path}.rules", f"{count} rules; at most {MAX_RULES}")]
    wrong: list[FieldViolation] = []
    for index, rule in enumerate(policy.rules):
        here = f"{path}.rules[{index}]"
        wrong += _check_target(here, rule, catalogue, items)
        if not 0 <= rule.most_strength <= max_strength:  # nor is NaN
            why = f"{rule.most_strength:g} is not between 0 (the server's limit) and {max_strength:g}"
            wrong.append(FieldViolation(f"{here}.most_strength", why))
    return wrong[:ENOUGH_VIOLATIONS]


def _check_target(path: str, rule: PolicyRule, catalogue: Catalogue, items: Items) -> Iterator[FieldViolation]:
    target = rule.WhichOneof("target")
    if target is None:
        yield FieldViolation(path, "names no concept, no attribute, neither features nor items: leave it out")
    elif target == "concept":
        names, name = catalogue.concept_rows, rule.concept
        if name and not any(_names(name, known) for known in names):
            hint = did_you_mean(name, names, "ListConcepts gives their names")
            yield FieldViolation(f"{path}.concept", f"fits no concept: {name[:100]!r}; {hint}")
    elif target == "attribute":
        name, value = rule.attribute.name, rule.attribute.value
        column = items.attributes.get(name)
        if column is None and name:
            yield FieldViolation(f"{path}.attribute.name", items.unknown_attribute(name))
        elif column is not None and value and (why := column.why_no_tilt(value)):
            yield FieldViolation(f"{path}.attribute.value", why)
        elif value and not name:
            yield FieldViolation(f"{path}.attribute.value", "needs the name of its attribute")
    elif not getattr(rule, target):
        yield FieldViolation(f"{path}.{target}", "is false, which allows nothing: make it true, or leave the rule out")


def beyond_policy(policy: Policy, path: str, controls: Sequence[Control]) -> list[FieldViolation]:
    """Which of a request's `controls` do not fit a rule."""
    wrong: list[FieldViolation] = []
    for index, control in enumerate(controls):
        fitting = [rule for rule in policy.rules if _fits(rule, control)]
        if not fitting:
            wrong.append(FieldViolation(f"{path}[{index}]", f"the scenario allows no such control; {_allowed(policy)}"))
        elif not any(_strength(control) <= rule.most_strength or not rule.most_strength for rule in fitting):
            most = max(rule.most_strength for rule in fitting)
            why = f"{_strength(control):g} is beyond what the scenario allows here: a magnitude of at most {most:g}"
            wrong.append(FieldViolation(f"{path}[{index}].strength", why))
    return wrong[:ENOUGH_VIOLATIONS]


def _fits(rule: PolicyRule, control: Control) -> bool:
    target = control.WhichOneof("target")
    if rule.HasField("concept"):
        return target == "concept" and (not rule.concept or _names(rule.concept, control.concept))
    if rule.HasField("attribute"):
        asked, allowed = control.attribute, rule.attribute
        named = allowed.name in ("", asked.name) and allowed.value in ("", asked.value)
        return target == "attribute" and named
    return target == "feature" if rule.any_feature else rule.any_items_or_words and target in ITEMS_OR_WORDS


def _names(pattern: str, name: str) -> bool:
    """`pattern` is a name, or its beginning with "*" at the end."""
    if pattern.endswith(ANYTHING_AFTER):
        return name.startswith(pattern.removesuffix(ANYTHING_AFTER))
    return name == pattern


def _strength(control: Control) -> float:
    """The largest magnitude that may come to be applied: a goal without one leaves the natural range to the server."""
    return abs(control.strength) or (NATURAL_RANGE if control.HasField("goal") else 0.0)


def _allowed(policy: Policy) -> str:
    if not policy.rules:
        return "it allows none"
    return f"it allows {', '.join(_described(policy.rules[:5]))}{' and more' * (len(policy.rules) > 5)}"


def _described(rules: Iterable[PolicyRule]) -> Iterator[str]:
    for rule in rules:
        target = rule.WhichOneof("target")
        if target == "concept":
            yield f"concept {rule.concept[:50] or ANYTHING_AFTER}"
        elif target == "attribute":
            name, value = rule.attribute.name[:50], rule.attribute.value[:50]
            yield f"attribute {name or ANYTHING_AFTER}{f':{value}' if value else ''}"
        else:
            yield "features" if target == "any_feature" else "items and words"
