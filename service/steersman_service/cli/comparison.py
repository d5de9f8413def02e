"""The recommendations without controls beside those with them: which items entered, left or moved."""

import json
from itertools import zip_longest

from google.protobuf.json_format import MessageToDict

from steersman.v1.recommendation_service_pb2 import RecommendedItem, RecommendResponse
from steersman_service.cli.display import applied_control
from steersman_service.cli.printing import print_json, print_table, remark, say

TITLES = ("", "item", "without controls", "item", "with controls", "change")


def print_comparison(plain: RecommendResponse, steered: RecommendResponse, as_json: bool) -> None:
    """`plain` is the answer without the controls of the request. Those of the session apply to both."""
    before, after = _ranks(plain), _ranks(steered)
    entered = [item_id for item_id in after if item_id not in before]
    left = [item_id for item_id in before if item_id not in after]
    if as_json:
        moved = [
            {"item_id": item_id, "from": before[item_id], "to": rank}
            for item_id, rank in after.items()
            if before.get(item_id, rank) != rank
        ]
        plain_dict, steered_dict = (MessageToDict(each, preserving_proto_field_name=True) for each in (plain, steered))
        told = {
            "plain": plain_dict,
            "steered": steered_dict,
            "entered": entered,
            "left": left,
            "moved": moved,
            "overlap": overlap(plain, steered),
        }
        print_json(json.dumps(told, ensure_ascii=False, indent=2))
        return
    rows = [
        (str(rank), *_cells(old), *_cells(new), _change(before.get(new.item_id), rank) if new else "")
        for rank, (old, new) in enumerate(zip_longest(plain.items, steered.items), 1)
    ]
    print_table(TITLES, rows, foldable=("without controls", "with controls"))
    for applied in steered.applied_controls:
        say(applied_control(applied))
    titles = {item.item_id: item.title for item in (*plain.items, *steered.items)}
    for word, ids in (("entered", entered), ("left", left)):
        say(f"{word}: {'; '.join(f'{titles[item_id]} ({item_id})' for item_id in ids) or 'none'}")
    remark("Next: change the strength after the =.")


def overlap(plain: RecommendResponse, steered: RecommendResponse) -> float:
    """Share of the plain list's items that are in the steered one; 1 if it is empty."""
    before, after = _ranks(plain), _ranks(steered)
    return len(before.keys() & after.keys()) / len(before) if before else 1.0


def _ranks(response: RecommendResponse) -> dict[str, int]:
    return {item.item_id: rank for rank, item in enumerate(response.items, 1)}


def _cells(item: RecommendedItem | None) -> tuple[str, str]:
    return (item.item_id, item.title) if item else ("", "")


def _change(before: int | None, rank: int) -> str:
    if before is None:
        return "entered"
    return f"{'up' if rank < before else 'down'} {abs(before - rank)}" if before != rank else ""
