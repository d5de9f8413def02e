"""Two lists side by side: without controls and with them. What entered, what left, what moved."""

import json
from itertools import zip_longest
from typing import Any

from google.protobuf.json_format import MessageToDict

from steersman.v1.recommendation_service_pb2 import RecommendedItem, RecommendResponse
from steersman_service.cli.display import applied_control
from steersman_service.cli.printing import Column, print_json, print_table, remark, say

COLUMNS = [
    Column("", key=True),
    Column("item", key=True),
    Column("without controls"),
    Column("item", key=True),
    Column("with controls"),
    Column("change", key=True),
]


def print_comparison(plain: RecommendResponse, steered: RecommendResponse, as_json: bool) -> None:
    """`plain` was asked without the controls of the request; those of a session are in both."""
    before, after = _ranks(plain), _ranks(steered)
    if as_json:
        print_json(json.dumps(_as_json(plain, steered, before, after), ensure_ascii=False, indent=2))
        return
    rows = [
        (str(rank), *_named(old), *_named(new), _change(new, rank, before) if new else "")
        for rank, (old, new) in enumerate(zip_longest(plain.items, steered.items), 1)
    ]
    print_table(COLUMNS, rows)
    for applied in steered.applied_controls:
        say(applied_control(applied))
    titles = {item.item_id: item.title for item in (*plain.items, *steered.items)}
    for word, ids in (("entered", after.keys() - before.keys()), ("left", before.keys() - after.keys())):
        order = sorted(ids, key=(after | before).__getitem__)
        say(f"{word}: {'; '.join(f'{titles[item_id]} ({item_id})' for item_id in order) or 'none'}")
    remark("Next: more or less of it: another strength after the =.")


def _ranks(response: RecommendResponse) -> dict[str, int]:
    return {item.item_id: rank for rank, item in enumerate(response.items, 1)}


def _named(item: RecommendedItem | None) -> tuple[str, str]:
    return (item.item_id, item.title) if item else ("", "")


def _change(item: RecommendedItem, rank: int, before: dict[str, int]) -> str:
    old = before.get(item.item_id)
    if old is None:
        return "entered"
    return f"{'up' if rank < old else 'down'} {abs(old - rank)}" if old != rank else ""


def _as_json(
    plain: RecommendResponse, steered: RecommendResponse, before: dict[str, int], after: dict[str, int]
) -> dict[str, Any]:
    moved = [
        {"item_id": one, "from": before[one], "to": rank}
        for one, rank in after.items()
        if rank != before.get(one, rank)
    ]
    return {
        "plain": MessageToDict(plain, preserving_proto_field_name=True),
        "steered": MessageToDict(steered, preserving_proto_field_name=True),
        "entered": [item_id for item_id in after if item_id not in before],
        "left": [item_id for item_id in before if item_id not in after],
        "moved": moved,
    }
