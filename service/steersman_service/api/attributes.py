"""What is known of an attribute of items: its values with how many items have each, or the range of its numbers."""

import numpy as np

from steersman.v1 import item_service_pb2 as pb
from steersman_service.bundle.items import Categories, Numbers


def described(name: str, attribute: Categories | Numbers, text: str, most: int) -> pb.Attribute:
    """At most `most` values that contain `text`, in any case, the most frequent first."""
    if isinstance(attribute, Numbers):
        known = attribute.values_N[np.isfinite(attribute.values_N)]
        listed = pb.Attribute(name=name, items=len(known))
        if len(known):
            listed.least, listed.most, listed.mean = known.min(), known.max(), known.mean()
        return listed
    wanted = text.casefold()
    found = [(value, items) for value, items in attribute.counts if wanted in value.casefold()]
    values = [pb.AttributeValue(value=value, items=items) for value, items in found[:most]]
    return pb.Attribute(name=name, values=values, total_values=len(found), items=attribute.known)
