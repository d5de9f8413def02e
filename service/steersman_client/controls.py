"""Controls as callers write them: what is steered, how strongly, or which goal it should reach."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from steersman.v1 import control_pb2 as pb

if TYPE_CHECKING:
    from steersman_client.catalogue import Feature

Operation = Literal["add", "set", "scale", "ablate"]
OPERATIONS: dict[Operation, pb.Operation] = {
    "add": pb.OPERATION_ADD,
    "set": pb.OPERATION_SET,
    "scale": pb.OPERATION_SCALE,
    "ablate": pb.OPERATION_ABLATE,
}


@dataclass(frozen=True)
class ConceptTarget:
    """A concept by its name: "genres:Horror"."""

    name: str


@dataclass(frozen=True)
class FeatureTarget:
    """A feature of one bundle."""

    id: int
    bundle_version: str


@dataclass(frozen=True)
class AttributeTarget:
    """A value of a categorical attribute ("genres", "Horror"), or a numeric attribute ("year", "")."""

    name: str
    value: str = ""


@dataclass(frozen=True)
class ItemsTarget:
    """Items by their ids."""

    item_ids: tuple[str, ...]


@dataclass(frozen=True)
class WordsTarget:
    """Free words."""

    text: str


Target = ConceptTarget | FeatureTarget | AttributeTarget | ItemsTarget | WordsTarget


@dataclass(frozen=True)
class Goal:
    """What a control should reach; the server finds the strength. One of the bounds."""

    at_least: float | None = None
    """Share of the list, 0 to 1."""
    at_most: float | None = None
    """The same."""
    overlap: float | None = None
    """Least share of the plain list that stays, 0 to 1."""
    divergence: float | None = None
    """Most Kullback-Leibler divergence from the plain scores, in nats."""
    of: ConceptTarget | AttributeTarget | ItemsTarget | None = None
    """What a share counts. None: what the control is about."""

    def message(self) -> pb.Goal:
        goal = pb.Goal(least_overlap=self.overlap, most_divergence=self.divergence)
        if self.at_least is not None or self.at_most is not None:
            share = pb.ShareGoal(at_least=self.at_least, at_most=self.at_most)
            put_target(share, self.of)
            goal.share.CopyFrom(share)
        return goal

    @classmethod
    def of_message(cls, goal: pb.Goal) -> Self | None:
        kind = goal.WhichOneof("goal")
        if kind is None:
            return None
        if kind != "share":
            return cls(**{"overlap" if kind == "least_overlap" else "divergence": getattr(goal, kind)})
        bound = goal.share.WhichOneof("bound")
        bounds: dict[str, Any] = {bound: getattr(goal.share, bound)} if bound else {}
        return cls(**bounds, of=_countable(read_target(goal.share, "of")))


@dataclass(frozen=True)
class Control:
    """One slider. The functions of this module make them; answers carry them, too, and they can be sent again."""

    target: Target
    strength: float = 0.0
    _: KW_ONLY
    operation: Operation = "add"
    goal: Goal | None = None

    def __str__(self) -> str:
        return f"{_named(self.target)} = {self.strength:g}"

    def message(self) -> pb.Control:
        control = pb.Control(operation=OPERATIONS[self.operation], strength=self.strength)
        put_target(control, self.target)
        if self.goal is not None:
            control.goal.CopyFrom(self.goal.message())
        return control

    @classmethod
    def of(cls, control: pb.Control) -> Self:
        """Raises ValueError for a target or an operation that this client does not know."""
        target = read_target(control, "target")
        operation = next((name for name, number in OPERATIONS.items() if number == control.operation), None)
        if target is None or operation is None:
            raise ValueError("a control of a kind that this client does not know: it is older than the server")
        return cls(target, control.strength, operation=operation, goal=Goal.of_message(control.goal))


Controls = Mapping[str, float] | Iterable[Control]
"""Names of concepts with their strengths, or controls of any kind."""


def concept(name: str, strength: float = 0.0, *, goal: Goal | None = None) -> Control:
    """More of a concept ("genres:Horror"), or less. Strength 1 is the effect that the catalogue states."""
    return Control(ConceptTarget(name), strength, goal=goal)


def feature(
    which: "Feature | int",
    strength: float = 0.0,
    *,
    version: str = "",
    operation: Operation = "add",
    goal: Goal | None = None,
) -> Control:
    """A feature of the catalogue, or its id with the `version` of the bundle that the id was taken from."""
    if isinstance(which, int):
        if not version:
            raise ValueError(
                f"feature {which}: ids change at every training; give version=, that of the bundle it is of"
            )
        return Control(FeatureTarget(which, version), strength, operation=operation, goal=goal)
    return Control(FeatureTarget(which.id, version or which.bundle_version), strength, operation=operation, goal=goal)


def tilt(attribute: str, value: str = "", strength: float = 0.0, *, goal: Goal | None = None) -> Control:
    """Adds `strength` (nats) to the score of each item with the value; of a numeric attribute (no value), for each standard deviation."""
    return Control(AttributeTarget(attribute, value), strength, goal=goal)


def items(item_ids: Sequence[str], strength: float = 0.0, *, goal: Goal | None = None) -> Control:
    """More like these items, or less."""
    return Control(ItemsTarget(ids_of("items", item_ids)), strength, goal=goal)


def words(text: str, strength: float = 0.0, *, goal: Goal | None = None) -> Control:
    """More of what these words say, by titles, attribute values and labels: "slow crime"."""
    return Control(WordsTarget(text), strength, goal=goal)


def at_least(
    share: float,
    *,
    concept: str | None = None,
    attribute: tuple[str, str] | None = None,
    items: Sequence[str] | None = None,
) -> Goal:
    """At least this share of the list, 0 to 1: of what the control is about, or of what is named here (one of them)."""
    return Goal(at_least=share, of=_counted(concept, attribute, items))


def at_most(
    share: float,
    *,
    concept: str | None = None,
    attribute: tuple[str, str] | None = None,
    items: Sequence[str] | None = None,
) -> Goal:
    """At most this share of the list, 0 to 1, as `at_least`."""
    return Goal(at_most=share, of=_counted(concept, attribute, items))


def overlap(least: float) -> Goal:
    """As strong as leaves this share of the plain list, 0 to 1."""
    return Goal(overlap=least)


def divergence(most: float) -> Goal:
    """As strong as keeps scores this close to the plain ones, in nats."""
    return Goal(divergence=most)


def messages_of(controls: Controls) -> list[pb.Control]:
    if isinstance(controls, Mapping):
        return [concept(name, strength).message() for name, strength in controls.items()]
    if isinstance(controls, Control | str):
        raise TypeError("controls: give a list of controls, or a mapping of concepts' names to strengths")
    return [control.message() for control in controls]


def ids_of(field: str, item_ids: Iterable[str]) -> tuple[str, ...]:
    """Raises TypeError for one text, whose letters would be taken for ids, and for numbers."""
    ids = () if isinstance(item_ids, str) else tuple(item_ids)
    if isinstance(item_ids, str) or not all(isinstance(each, str) for each in ids):
        raise TypeError(f'{field}: give a list of ids, each a text: ["50", "181"]')
    return ids


def put_target(message: Any, target: Target | None) -> None:
    """Into a message with fields as those of Control's target."""
    match target:
        case ConceptTarget(name):
            message.concept = name
        case FeatureTarget(number, version):
            message.feature.CopyFrom(pb.FeatureRef(id=number, bundle_version=version))
        case AttributeTarget(name, value):
            message.attribute.CopyFrom(pb.AttributeRef(name=name, value=value))
        case ItemsTarget(item_ids):
            message.items.CopyFrom(pb.ItemSet(item_ids=item_ids))
        case WordsTarget(text):
            message.words = text


def read_target(message: Any, oneof: str) -> Target | None:
    """None if there is none, or one of a kind that this client does not know."""
    match message.WhichOneof(oneof):
        case "concept":
            return ConceptTarget(message.concept)
        case "feature":
            return FeatureTarget(message.feature.id, message.feature.bundle_version)
        case "attribute":
            return AttributeTarget(message.attribute.name, message.attribute.value)
        case "items":
            return ItemsTarget(tuple(message.items.item_ids))
        case "words":
            return WordsTarget(message.words)
    return None


def _counted(
    concept: str | None, attribute: tuple[str, str] | None, items: Sequence[str] | None
) -> ConceptTarget | AttributeTarget | ItemsTarget | None:
    named: list[ConceptTarget | AttributeTarget | ItemsTarget] = []
    if concept is not None:
        named.append(ConceptTarget(concept))
    if attribute is not None:
        named.append(AttributeTarget(*attribute))
    if items is not None:
        named.append(ItemsTarget(ids_of("items", items)))
    if len(named) > 1:
        raise ValueError("a goal counts one thing: a concept, an attribute value or items")
    return named[0] if named else None


def _countable(target: Target | None) -> ConceptTarget | AttributeTarget | ItemsTarget | None:
    return target if isinstance(target, ConceptTarget | AttributeTarget | ItemsTarget) else None


def _named(target: Target) -> str:
    match target:
        case ConceptTarget(name) | WordsTarget(name):
            return name
        case FeatureTarget(number, _):
            return f"f{number}"
        case AttributeTarget(name, value):
            return f"{name}:{value}" if value else name
        case ItemsTarget(item_ids):
            return f"{len(item_ids)} items"
