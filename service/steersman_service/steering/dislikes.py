"""What a session's user disliked or hid, as a control: gently less like these."""

from importlib.util import find_spec

from steersman.v1.control_pb2 import OPERATION_ADD, Control, ItemSet
from steersman_service.bundle.items import Items, Rows

# Of the items refused last: taste changes, and a control on hundreds of items says little of any.
MOST_ITEMS = 20
# Controls on item sets are resolved by steering/aims.py. Until it is there, refused items are left out of lists, and nothing more.
ITEM_SETS_ARE_RESOLVED = find_spec("steersman_service.steering.aims") is not None


def less_like(refused: Rows, items: Items, strength: float) -> list[Control]:
    """At most one control, on the newest of `refused` (newest last). None where there are none, or `strength` is 0."""
    if not (len(refused) and strength and ITEM_SETS_ARE_RESOLVED):
        return []
    item_ids = [items.ids[row] for row in refused[-MOST_ITEMS:].tolist()]
    return [Control(items=ItemSet(item_ids=item_ids), operation=OPERATION_ADD, strength=-strength)]
