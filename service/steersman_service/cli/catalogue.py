"""Prints what the catalogue says of neighbours and of attributes."""

from steersman.v1.feature_service_pb2 import ListNeighboursResponse, Neighbour
from steersman.v1.item_service_pb2 import Attribute, ListAttributesResponse
from steersman_service.cli.client import Client
from steersman_service.cli.printing import print_table, remark, say


def print_neighbours(near: ListNeighboursResponse, of: str) -> None:
    """What doubles a control first, then what undoes it."""
    rows = [(_name(each), each.label, f"{each.likeness:+.2f}") for each in (*near.alike, *reversed(near.opposed))]
    print_table(("control", "label", "likeness"), rows, foldable=("label",))
    say(f"likeness: correlation over items of what {of} and each of these add to scores")


def _name(neighbour: Neighbour) -> str:
    return neighbour.concept if neighbour.WhichOneof("of") == "concept" else f"f{neighbour.feature_id}"


def print_attributes(known: ListAttributesResponse, client: Client) -> None:
    """A line for each value, or for the range of a number."""
    rows = [row for attribute in known.attributes for row in _rows(attribute)]
    print_table(("attribute", "value", "items"), rows, foldable=("value",))
    for attribute in known.attributes:
        if attribute.total_values > len(attribute.values):
            say(f"{attribute.name}: {len(attribute.values)} of {attribute.total_values} values")
    if rows:
        remark(
            f"Next: {client.command('recommend --history IDS --where ATTRIBUTE=VALUE')}, or --tilt ATTRIBUTE:VALUE=0.8"
        )


def _rows(attribute: Attribute) -> list[tuple[str, str, str]]:
    if attribute.HasField("mean"):
        told = f"{attribute.least:g} to {attribute.most:g}, mean {attribute.mean:g}"
        return [(attribute.name, told, str(attribute.items))]
    return [(attribute.name, each.value, str(each.items)) for each in attribute.values]
