"""The kinds of sparse autoencoder: what each keeps active, the metric of the predictions, and that each can be exported."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from steersman_training.autoencoder.edit import Edit, natural_scale
from steersman_training.autoencoder.sae import (
    Anchors,
    Kind,
    SaeConfig,
    SparseAutoencoder,
    _Whitening,
    measure_sae,
    train_sae,
)
from steersman_training.autoencoder.states import collect_states, some_users
from steersman_training.data.sequences import Split, Targets
from steersman_training.evaluation.sweep import at_hook
from steersman_training.recommender.model import Recommender, RecommenderConfig
from tests.conftest import make_bundle

KINDS: tuple[Kind, ...] = get_args(Kind)
CONFIG = SaeConfig(features=48, active=4, epochs=40, batch_size=128, learning_rate=1e-2, dead_after=2000)


def planted(count: int = 2000, seed: int = 0) -> Tensor:
    """States made of four of 32 directions each. (S, D = 16)"""
    generator = torch.Generator().manual_seed(seed)
    directions_FD = F.normalize(torch.randn(32, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    heights_SF = 1 + torch.rand(count, 32, generator=generator)
    kept_SF = torch.rand(count, 32, generator=generator).argsort(1) < 4
    return 5 * (heights_SF * kept_SF) @ directions_FD + 3


@pytest.fixture(scope="module")
def trained() -> dict[Kind, SparseAutoencoder]:
    return {kind: train_sae(planted(), replace(CONFIG, kind=kind), lambda *_: None) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_it_explains_held_out_states_with_as_many_features_as_asked(
    trained: dict[Kind, SparseAutoencoder], kind: Kind
) -> None:
    figures = measure_sae(trained[kind], planted(seed=2))
    assert figures["variance_explained"] > 0.75
    assert figures["active"] == pytest.approx(4, rel=0.15)
    assert figures["dead"] < 0.5


def test_states_that_are_not_whitened_give_rows_of_unit_norm() -> None:
    sae = train_sae(planted(), replace(CONFIG, epochs=2, whiten=0.0), lambda *_: None)
    torch.testing.assert_close(sae.decoder_FD.norm(dim=1), torch.ones(48))


@given(seed=st.integers(0, 1000), power=st.floats(0, 1), still=st.integers(0, 15), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=40)
def test_a_folded_autoencoder_does_to_states_what_it_did_to_whitened_ones(
    seed: int, power: float, still: int, kind: Kind
) -> None:
    """Some directions do not vary at all."""
    h_SD = planted(300, seed)
    h_SD = h_SD @ torch.linspace(0.1, 3, 16).index_fill(0, torch.arange(still), 0.0).diag() + 1.0
    whitening = _Whitening.of(h_SD, power)
    x_SD = whitening.whiten(h_SD)
    assert float(x_SD.var(0, correction=0).mean()) == pytest.approx(1, rel=1e-3)
    torch.manual_seed(seed)
    sae = SparseAutoencoder(16, 48, 4, kind).requires_grad_(False)
    for part in (sae.encoder_bias_F, sae.decoder_bias_D):
        part.normal_(std=0.3)
    if kind == "matryoshka":
        sae.threshold_F.fill_(0.2)
    clear = sae.margin(x_SD) > 1e-3
    z_SF, reconstructed_SD = sae.encode(x_SD), sae.reconstruct(x_SD)
    whitening.fold_into(sae)
    torch.testing.assert_close(sae.encode(h_SD)[clear], z_SF[clear] * whitening.unit, rtol=2e-3, atol=2e-3)
    back_SD = whitening.mean_D + reconstructed_SD @ whitening.back_DD
    torch.testing.assert_close(
        sae.reconstruct(h_SD)[clear], back_SD[clear], rtol=2e-3, atol=2e-3 * float(back_SD.abs().max())
    )


def test_whitening_by_nothing_scales_alone_and_wholly_makes_all_directions_alike() -> None:
    h_SD = planted(3000) @ torch.linspace(0.1, 3, 16).diag()
    nothing, wholly = _Whitening.of(h_SD, 0.0), _Whitening.of(h_SD, 1.0)
    torch.testing.assert_close(nothing.there_DD, torch.eye(16) / nothing.unit, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nothing.unit**2, float(h_SD.var(0, correction=0).mean()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(wholly.whiten(h_SD).T.cov(correction=0), torch.eye(16), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_anchored_features_stand_beside_the_discovered_ones_and_change_nothing_of_them(
    trained: dict[Kind, SparseAutoencoder], kind: Kind
) -> None:
    sae, h_SD = trained[kind], planted(500, seed=3)
    generator = torch.Generator().manual_seed(4)
    anchors = Anchors(*(torch.randn(3, *shape, generator=generator) for shape in ((16,), (), (16,))))
    joined = sae.with_anchors(anchors)
    z_SF = joined.encode(h_SD)
    assert (joined.discovered, z_SF.shape) == (48, (500, 51))
    assert torch.equal(z_SF[:, :48], sae.encode(h_SD))
    wanted_SV = (h_SD @ anchors.encoder_VD.T - anchors.threshold_V).relu()
    assert bool((wanted_SV > 0).any(0).all())
    torch.testing.assert_close(z_SF[:, 48:], wanted_SV, rtol=1e-4, atol=1e-4)
    assert torch.equal(joined.reconstruct(h_SD), sae.reconstruct(h_SD))
    assert torch.equal(joined.margin(h_SD), sae.margin(h_SD))
    assert measure_sae(joined, h_SD) == measure_sae(sae, h_SD)
    scale_F = natural_scale(joined, h_SD)
    torch.testing.assert_close(scale_F[:48], natural_scale(sae, h_SD))
    for column_S, scale in zip(wanted_SV.T, scale_F[48:], strict=True):
        torch.testing.assert_close(scale, column_S[column_S > 0].quantile(0.99), rtol=1e-4, atol=1e-4)
    # An edit by strength 1 moves the state along the anchor's decoder by that scale.
    add = (torch.tensor([[49]]), torch.ones(1, 1), torch.ones(1, 1))
    moved_D = Edit(joined, scale_F)(h_SD[:1], *add).edited_BD[0] - h_SD[0]
    torch.testing.assert_close(moved_D, scale_F[49] * anchors.decoder_VD[1], rtol=1e-3, atol=1e-3)


@given(seed=st.integers(0, 1000), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=40)
def test_a_state_is_encoded_alike_whatever_its_batch(
    trained: dict[Kind, SparseAutoencoder], seed: int, kind: Kind
) -> None:
    """What is exported must not know a batch's threshold."""
    h_BD = planted(16, seed)
    together_BF = trained[kind].encode(h_BD)
    clear = trained[kind].margin(h_BD) > 1e-4
    for row in clear.nonzero().flatten().tolist():
        torch.testing.assert_close(trained[kind].encode(h_BD[row : row + 1])[0], together_BF[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_within_its_margin_no_feature_is_switched(trained: dict[Kind, SparseAutoencoder], kind: Kind) -> None:
    sae, h_BD = trained[kind], planted(200, seed=3)
    step_BD = torch.randn(h_BD.shape, generator=torch.Generator().manual_seed(0))
    moved_B = (
        F.linear(step_BD, sae.encoder_FD).abs().amax(1)
    )  # what the step does to the pre-activation that it moves most
    nearly_BD = h_BD + step_BD * (0.45 * sae.margin(h_BD) / moved_B)[:, None]
    assert torch.equal(sae.encode(h_BD) > 0, sae.encode(nearly_BD) > 0)


def test_the_threshold_is_one_for_the_dictionary(trained: dict[Kind, SparseAutoencoder]) -> None:
    assert trained["matryoshka"].threshold_F.unique().numel() == 1
    assert trained["matryoshka"].threshold_F[0] > 0


def test_the_first_features_of_a_matryoshka_explain_more_alone(trained: dict[Kind, SparseAutoencoder]) -> None:
    h_SD = planted(seed=2)

    def explained(sae: SparseAutoencoder) -> float:
        z_SF = sae.encode(h_SD)
        z_SF[:, 12:] = 0
        return float(1 - (h_SD - sae.decode(z_SF)).square().sum() / (h_SD - h_SD.mean(0)).square().sum())

    assert explained(trained["matryoshka"]) > explained(trained["topk"]) + 0.1


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"active": 513}, "active"), ({"kind": "relu"}, "kind"), ({"whiten": 1.1}, "whiten")],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SaeConfig(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def split() -> Split:
    """Forty histories of twelve events."""
    items = torch.randint(30, (480,), generator=torch.Generator().manual_seed(0)).numpy()
    none = torch.zeros(0, dtype=torch.int64).numpy()
    empty = Targets(none, none)
    return Split(items, torch.arange(0, 481, 12).numpy(), torch.full((40,), 12).numpy(), empty, empty, 30)


@pytest.fixture(scope="module")
def model() -> Recommender:
    torch.manual_seed(0)
    model = Recommender(RecommenderConfig(hidden=8, window_length=12, window_stride=4), 30)
    torch.nn.init.normal_(model.items.weight)
    return model.eval().requires_grad_(False)


def test_of_very_many_users_some_give_their_states(split: Split) -> None:
    users = [0, 1, 3]
    lengths = [int(split.train_ends_U[user]) for user in users]
    assert some_users(split, users, seed=0, events=sum(lengths) + 1) == users
    few = some_users(split, users, seed=0, events=1)
    assert len(few) == 1
    assert {some_users(split, users, seed, events=1)[0] for seed in range(30)} == set(users)
    assert set(few) <= set(some_users(split, users, seed=0, events=max(lengths) + 1))


def test_states_can_be_read_after_any_block(model: Recommender, split: Split) -> None:
    by_hook = [collect_states(at_hook(model, hook), split, [0, 1]).h_SD for hook in (0, 1, 2)]
    assert torch.equal(by_hook[2], collect_states(model, split, [0, 1]).h_SD)
    assert not torch.equal(by_hook[0], by_hook[1])
    assert model.config.hook is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_each_kind_replays_its_golden_rows(
    kind: Kind, data_dir: Path, bundle_dir: Path, tmp_path: Path
) -> None:
    """Writing compares ONNX and TorchScript with torch. The bundle of all other tests is one of `topk`."""
    folder = bundle_dir if kind == "topk" else make_bundle(data_dir, tmp_path, kind=kind)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["autoencoder"] == {"kind": kind, "active": 8}
