"""Effect curves: what a control does at several strengths, on the users on whom its effect at strength 1 is measured."""

from collections.abc import Callable
from typing import Any

import polars as pl
from torch import Tensor

from steersman_training.catalogue.steering import Audience, SteeredLists

STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of a control
COLUMNS = ("curve_strengths", "curve_shares", "curve_ndcg_kept")
SCHEMA = dict.fromkeys(COLUMNS, pl.List(pl.Float32))
UNMEASURED: dict[str, Any] = {name: [] for name in COLUMNS}


def effect_curve(
    row: dict[str, Any], lists_at: Callable[[float], SteeredLists], member_N: Tensor, people: Audience
) -> dict[str, Any]:
    """The columns of a control whose effect at strength 1 stands in `row`.

    `lists_at` gives the lists of `people` at a strength of the control; `member_N` are the items that it is about.
    """
    points = {0.0: (row["share_before"], 1.0), 1.0: (row["share_after"], row["ndcg_kept"])}
    for strength in STRENGTHS:
        if strength not in points:
            points[strength] = effect(lists_at(strength), member_N, people)
    shares, ndcg_kept = zip(*(points[strength] for strength in STRENGTHS), strict=True)
    return dict(zip(COLUMNS, (list(STRENGTHS), list(shares), list(ndcg_kept)), strict=True))


def effect(lists: SteeredLists, member_N: Tensor, people: Audience) -> tuple[float, float]:
    """Share of the lists that belongs to `member_N`, and NDCG beside that of the plain lists."""
    return lists.share(member_N), lists.ndcg / max(people.plain.ndcg, 1e-9)
