"""What a session's user disliked or hid, as a control: gently less like these."""

from steersman.v1.control_pb2 import OPERATION_ADD, Control, ItemSet
from steersman_service.bundle.items import Items, Rows

# Of the items refused last: taste changes, and a control on hundreds of items says little of any.
MOST_ITEMS = 20


def less_like(refused: Rows, items: Items, strength: float) -> list[Control]:
    """At most one control, on the newest of `refused` (newest last). None where there are none, or `strength` is 0."""
    if not (len(refused) and strength):
        return []
    item_ids = [items.ids[row] for row in refused[-MOST_ITEMS:].tolist()]
    return [Control(items=ItemSet(item_ids=item_ids), operation=OPERATION_ADD, strength=-strength)]
