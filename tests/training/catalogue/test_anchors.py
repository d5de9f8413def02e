"""Anchored features: the encoder detects an aim, the decoder raises it, and below the last block a fixed strength does."""

from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit, natural_scale
from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import Anchors, SparseAutoencoder
from steersman_training.bundle.graphs import FixedConcepts, SolvedConcepts
from steersman_training.catalogue.aims import NUMERIC, Aim
from steersman_training.catalogue.anchors import LEAST_COSINE, _apart, _towards, fit_anchors
from steersman_training.catalogue.concepts import ConceptConfig, fit_concepts
from steersman_training.catalogue.steering import Audience
from steersman_training.recommender.model import Recommender, RecommenderConfig

ITEMS, HIDDEN = 80, 16


def aims() -> list[Aim]:
    """Four values and a number."""
    members_VN = torch.arange(ITEMS) % 4 == torch.arange(4)[:, None]
    number_N = torch.linspace(-1.7, 1.7, ITEMS)
    values = [Aim("genres", f"{value}", member_N.float(), member_N) for value, member_N in enumerate(members_VN)]
    return [*values, Aim("year", NUMERIC, number_N, number_N > 0)]


def leans() -> Tensor:
    return torch.stack([aim.lean_N for aim in aims()])


def recommender() -> Recommender:
    """An item's vector is the sum of random directions of what it has, and of its own."""
    generator = torch.Generator().manual_seed(0)
    model = Recommender(RecommenderConfig(hidden=HIDDEN, heads=2), ITEMS).eval().requires_grad_(False)
    directions_VD = torch.randn(5, HIDDEN, generator=generator)
    own_ND = torch.randn(ITEMS, HIDDEN, generator=generator)
    model.items.weight.copy_((leans().T @ directions_VD + 0.5 * own_ND) / 2)
    return model


def moments(model: Recommender, count: int = 3000, seed: int = 1) -> Moments:
    """States of random users; the lists are the best of their scores, the item at hand is one of the best fifteen."""
    generator = torch.Generator().manual_seed(seed)
    h_SD = torch.randn(count, HIDDEN, generator=generator)
    best_SK = model.score(h_SD).topk(15, dim=1).indices
    drawn_S1 = torch.randint(15, (count, 1), generator=generator)
    return Moments(h_SD, best_SK.gather(1, drawn_S1).squeeze(1), best_SK[:, :10])


def people(model: Recommender, count: int = 120, seed: int = 2) -> Audience:
    generator = torch.Generator().manual_seed(seed)
    h_BD = torch.randn(count, HIDDEN, generator=generator)
    eligible_BN, targets_B = (
        torch.ones(count, ITEMS, dtype=torch.bool),
        torch.randint(ITEMS, (count,), generator=generator),
    )
    return Audience(model, h_BD, (), eligible_BN, targets_B)


@pytest.fixture(scope="module")
def model() -> Recommender:
    return recommender()


@pytest.fixture(scope="module")
def anchors(model: Recommender) -> Anchors:
    return fit_anchors(aims(), moments(model), people(model))


@pytest.fixture(scope="module")
def edit(model: Recommender, anchors: Anchors) -> Edit:
    torch.manual_seed(0)
    sae = SparseAutoencoder(HIDDEN, 24, active=4).requires_grad_(False).with_anchors(anchors)
    return Edit(sae, natural_scale(sae, moments(model).h_SD))


def test_an_encoder_detects_its_aim_in_the_list_to_come(model: Recommender, edit: Edit) -> None:
    new = moments(model, seed=7)
    z_SV = edit.sae.encode(new.h_SD)[:, edit.sae.discovered :]
    found_VV = torch.corrcoef(torch.cat([z_SV.T, new.list_means(leans()).T]))[:5, 5:]
    assert bool((found_VV.diagonal() > 0.5).all())
    assert found_VV.argmax(1).tolist() == list(range(5))
    active_V = (z_SV > 0).float().mean(0)
    assert bool(((active_V > 0.05) & (active_V < 0.95)).all())


def test_strength_1_of_an_anchored_feature_raises_its_aim_and_its_own_reading(model: Recommender, edit: Edit) -> None:
    others = people(model, seed=8)
    means_NV = leans().T
    plain_V = means_NV[others.plain.rows_BK].mean((0, 1))
    for value in range(5):
        feature = edit.sae.discovered + value
        rise_V = means_NV[others.steered(edit, feature, 1.0).rows_BK].mean((0, 1)) - plain_V
        assert float(rise_V[value]) > 0.1
        assert int(rise_V.argmax()) == value
        add = (torch.full((120, 1), feature), torch.ones(120, 1), torch.ones(120, 1))
        pre_BF, moved_BF = (edit.sae.preactivations(h_BD) for h_BD in (others.h_BD, edit(others.h_BD, *add).edited_BD))
        torch.testing.assert_close(
            moved_BF[:, feature], pre_BF[:, feature] + edit.scale_F[feature], rtol=1e-3, atol=1e-3
        )


def test_encoders_read_what_their_decoders_do(anchors: Anchors) -> None:
    encoder_VD, _, decoder_VD = anchors
    torch.testing.assert_close((encoder_VD * decoder_VD).sum(1), torch.ones(5))
    cosine_V = torch.nn.functional.cosine_similarity(encoder_VD, decoder_VD)
    assert bool((cosine_V >= LEAST_COSINE - 1e-4).all())


def test_an_encoder_that_does_not_read_its_decoder_is_turned_to_it() -> None:
    encoders_VD = torch.tensor([[0.0, 2.0], [-1.0, 1.0], [1.0, 1.0]])
    turned_VD = _towards(encoders_VD, torch.tensor([[1.0, 0.0]]).expand(3, -1))
    torch.testing.assert_close(turned_VD.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(turned_VD[:, 0], torch.tensor([LEAST_COSINE, LEAST_COSINE, 0.5**0.5]))
    assert bool((turned_VD[:, 1] > 0).all())


def test_an_encoder_that_tells_of_another_value_is_turned_away_from_it_where_that_helps() -> None:
    states_SD = torch.randn(4000, 6, generator=torch.Generator().manual_seed(3))
    states_SD -= states_SD.mean(0)
    whole_S = states_SD[:, 0]
    part_S = 0.8 * whole_S + 0.6 * states_SD[:, 1]  # most of its items are those of the whole
    read_VD, decoders_VD = torch.zeros(2, 6), torch.zeros(2, 6)
    read_VD[0, 0], read_VD[1, :2] = 1.0, torch.tensor([0.99, 0.14])  # so that one, too, reads the whole
    decoders_VD[:, 5] = 1.0
    before_VD = _towards(read_VD, decoders_VD)

    def told_VV(encoders_VD: Tensor) -> Tensor:
        return torch.corrcoef(torch.cat([encoders_VD @ states_SD.T, torch.stack([whole_S, part_S])]))[:2, 2:]

    lists_SV = torch.stack([whole_S, part_S], dim=1)
    apart_VD = _apart(read_VD, decoders_VD, states_SD, lists_SV, ["genres", "genres"])
    assert told_VV(before_VD).argmax(1).tolist() == [0, 0]
    assert told_VV(apart_VD).argmax(1).tolist() == [0, 1]
    torch.testing.assert_close(apart_VD[0], before_VD[0])
    same_SV = torch.stack([whole_S, whole_S], dim=1)  # nothing tells them apart
    for lists, attributes in ((same_SV, ["genres", "genres"]), (lists_SV, ["genres", "mood"])):
        torch.testing.assert_close(_apart(read_VD, decoders_VD, states_SD, lists, attributes), before_VD)


def test_fitting_says_how_far_it_is_and_is_repeatable(model: Recommender, anchors: Anchors) -> None:
    done: list[tuple[int, int]] = []
    again = fit_anchors(aims(), moments(model), people(model), lambda *of: done.append(of))
    assert done == [(number, 5) for number in range(1, 6)]
    for one, other in zip(again, anchors, strict=True):
        torch.testing.assert_close(one, other)


def test_without_aims_there_are_no_anchors(model: Recommender) -> None:
    none = fit_anchors([], moments(model, 50), people(model, 9))
    assert [part.shape for part in none] == [(0, HIDDEN), (0,), (0, HIDDEN)]
    sae = SparseAutoencoder(HIDDEN, 24, active=4)
    assert sae.with_anchors(none).encode(torch.randn(3, HIDDEN)).shape == (3, 24)


def test_an_aim_that_nothing_tells_apart_is_anchored_to_numbers(model: Recommender) -> None:
    """All items have it, or none that is ever shown: there is nothing to read or to raise."""
    nothing = [
        Aim("genres", name, torch.full((ITEMS,), of), torch.full((ITEMS,), of > 0))
        for name, of in (("All", 1.0), ("No", 0.0))
    ]
    for part in fit_anchors(nothing, moments(model, 200), people(model, 20)):
        assert bool(part.isfinite().all())


def test_each_concept_is_its_anchored_feature_as_strong_as_reaches_its_goal(model: Recommender, edit: Edit) -> None:
    everything = torch.ones(ITEMS, dtype=torch.bool)
    measured = people(model, seed=9)
    graph, table = fit_concepts(edit, aims(), measured, ConceptConfig())
    assert isinstance(graph, SolvedConcepts)
    assert table["name"].to_list() == ["genres:0", "genres:1", "genres:2", "genres:3", "year"]
    assert [features for (features,) in table["features"].to_list()] == list(range(24, 29))
    for row in table.iter_rows(named=True):
        assert row["share_after"] == pytest.approx(min(row["share_before"] + 0.30, 0.9), abs=0.03)
        assert 0 < row["strength"] <= row["strength_95"] < 16
        assert row["weights"] == [pytest.approx(row["strength"], rel=1e-4)]  # all of them upwards
    _, whole = fit_concepts(edit, [Aim("genres", "All", everything.float(), everything)], measured, ConceptConfig())
    assert whole["share_before"].to_list() == whole["share_after"].to_list() == [1.0]
    assert whole["ndcg_kept"].to_list() == [1.0]


def test_below_the_last_block_concepts_are_anchored_features_of_fixed_strength(below_the_last_block: Path) -> None:
    folder = below_the_last_block
    features, concepts = (pl.read_parquet(folder / f"{name}.parquet") for name in ("features", "concepts"))
    anchored = features.filter(pl.col("kind") == "anchored")
    assert [row for (row,) in concepts["features"].to_list()] == anchored["feature"].to_list()
    assert anchored["feature"].to_list() == list(range(64, features.height))
    assert concepts["strength"].to_list() == pytest.approx(concepts["strength_95"].to_list())  # alike for all users
    genres = concepts.filter(pl.col("attribute") == "genres")
    assert bool((genres["share_after"] > genres["share_before"]).all())
    assert FixedConcepts.INPUTS == ("concepts_BC", "concept_strengths_BC")
