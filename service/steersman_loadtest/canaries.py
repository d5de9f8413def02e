"""Canaries: calls repeated during a run, whose answers were recorded before it, without other load."""

from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

from steersman.v1.recommendation_service_pb2 import RecommendedItem, RecommendRequest

# Further items of a reference: an item just beyond the answer may change places with one in it.
MARGIN = 5


class RankedItem(NamedTuple):
    """An item of an answer, with its score."""

    item_id: str
    score: float


class Canary(NamedTuple):
    """A call and its answer."""

    request: RecommendRequest
    reference: Sequence[RankedItem]
    """The answer without other load, MARGIN items longer than requested."""
    concept: str = ""
    """The steered concept, if its effect is checked."""
    having: Set[str] = frozenset()
    """All items of the concept."""
    plain_share: float = 0.0
    """Their share in the answer to the same call without controls, 0 to 1."""

    def share(self, item_ids: Sequence[str]) -> float:
        """Of the concept's items in an answer, 0 to 1."""
        return sum(item_id in self.having for item_id in item_ids) / max(1, len(item_ids))


def ranked(items: Iterable[RecommendedItem]) -> tuple[RankedItem, ...]:
    return tuple(RankedItem(item.item_id, item.score) for item in items)


def difference(reference: Sequence[RankedItem], answer: Sequence[RankedItem], tolerance: float) -> str:
    """How `answer` differs from the start of `reference`; empty if it does not.

    Scores may differ by `tolerance` times their scale (the largest magnitude in the reference, at least 1), and only
    items whose scores lie closer than that may change places.
    """
    allowed = tolerance * max([1.0, *(abs(item.score) for item in reference)])
    scores = dict(reference)
    for rank, (wanted, got) in enumerate(zip(reference, answer, strict=False), 1):
        if abs(got.score - wanted.score) > allowed:
            return f"rank {rank}: score {got.score:.7g} for {wanted.score:.7g}"
        if got.item_id != wanted.item_id and abs(scores.get(got.item_id, float("inf")) - wanted.score) > allowed:
            return f"rank {rank}: item {got.item_id} for {wanted.item_id}"
    return "" if len(answer) <= len(reference) else f"{len(answer)} items for {len(reference)}"
