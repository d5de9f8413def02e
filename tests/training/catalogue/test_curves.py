"""Effect curves: at 0 and 1 what the table states, between and beyond what the control does there."""

from pathlib import Path

import polars as pl
import pytest
import torch

from steersman_training.catalogue.curves import COLUMNS, STRENGTHS, effect_curve
from tests.training.controlled import Controlled


@pytest.fixture(scope="module", params=["features", "concepts"])
def table(bundle_dir: Path, request: pytest.FixtureRequest) -> pl.DataFrame:
    return pl.read_parquet(bundle_dir / f"{request.param}.parquet")


def test_what_can_be_steered_has_a_curve_with_what_is_stated(table: pl.DataFrame) -> None:
    steerable = pl.col("steerable") if "steerable" in table.columns else pl.lit(value=True)
    steered, others = table.filter(steerable), table.filter(~steerable)
    assert steered.height
    for row in steered.iter_rows(named=True):
        strengths, shares, kept = (row[name] for name in COLUMNS)
        assert strengths == list(STRENGTHS)
        assert (shares[2], kept[2]) == (row["share_before"], 1.0)
        assert (shares[4], kept[4]) == (row["share_after"], row["ndcg_kept"])
        assert all(0 <= share <= 1 for share in shares)
        assert shares[0] <= shares[2] + 0.03, "turned down, there is less of it"
    for name in COLUMNS:
        assert others[name].null_count() == 0
        assert others[name].list.len().sum() == 0


def test_a_curve_is_of_the_lists_at_its_strengths(controlled: Controlled) -> None:
    people, edit = controlled.people, controlled.edit
    feature = int(edit.scale_F.argmax())
    member_N = torch.arange(people.eligible_BN.shape[1]) % 4 == 1
    row = {"share_before": 0.25, "share_after": 0.75, "ndcg_kept": 0.5}
    curve = effect_curve(row, lambda strength: people.steered(edit, feature, 2 * strength), member_N, people)
    one_B1 = torch.ones_like(people.h_BD[:, :1])
    for strength, share, kept in zip(*(curve[name] for name in COLUMNS), strict=True):
        if strength == 0:
            assert (share, kept) == (0.25, 1.0)
        elif strength == 1:
            assert (share, kept) == (0.75, 0.5)
        else:
            lists = people.edited(edit, (feature * one_B1).long(), one_B1, 2 * strength * one_B1)
            assert share == pytest.approx(float(member_N[lists.rows_BK].double().mean()), abs=0.002)
            assert kept == pytest.approx(lists.ndcg / people.plain.ndcg, abs=0.01)
