"""What is known of items: the attributes of each; of an attribute, its values with how many items have each, or its range."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from steersman.v1 import item_service_pb2 as pb
from steersman_service.bundle.items import Categories, Numbers, Rows


class ItemAttributes:
    """Of every item, by its row."""

    def __init__(self, table: pa.Table, names: Iterable[str]) -> None:
        # A table without columns would have no rows.
        self._table = table.select(["item_id", *names])

    def of(self, rows: Rows) -> list[list[pb.ItemAttribute]]:
        """What is known of each of `rows`."""
        return [list(_known(record)) for record in self._table.take(rows).to_pylist()]


def _known(record: dict[str, Any]) -> Iterator[pb.ItemAttribute]:
    for name, value in record.items():
        if isinstance(value, float) and np.isfinite(value):
            yield pb.ItemAttribute(name=name, number=value)
        elif isinstance(value, list) and (values := [part for part in value if part is not None]):
            yield pb.ItemAttribute(name=name, values=values)


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
