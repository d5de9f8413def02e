"""Splits, metrics, resuming, and what the catalogue measures."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from steersman_training.data import DataError, Dataset, load
from steersman_training.data.sequences import (
    Batch,
    EvaluationBatch,
    Split,
    Targets,
    pad,
    split_global_time,
    split_leave_one_out,
    training_groups,
)
from steersman_training.recommender.fit import Fit, FitConfig, Progress
from steersman_training.recommender.model import Recommender, RecommenderConfig
from steersman_training.recommender.ranking import mask_seen, ndcg, ranks

SHAPE = RecommenderConfig(hidden=16, window_length=20, window_stride=5)


@pytest.fixture(scope="module")
def data(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(str(data_dir), cache=tmp_path_factory.mktemp("cache"))


def test_held_out_events_are_never_trained_on(data: Dataset) -> None:
    split = split_leave_one_out(data)
    for user, position in zip(*split.test, strict=True):
        assert split.train_ends_U[user] == position - 1
    assert (split.test.positions == split.valid.positions + 1).all()


def test_every_training_event_is_a_target_once_an_epoch(data: Dataset) -> None:
    split = split_leave_one_out(data)
    rng = np.random.default_rng(0)
    shares = [training_groups(split, 7, 100, rng, range(rank, split.users, 2)) for rank in range(2)]
    batches = [pad(group) for groups in shares for group in groups]
    seen = np.concatenate(
        [batch.ids_BT[np.arange(batch.ids_BT.shape[1]) < batch.lengths_B[:, None]] for batch in batches]
    )
    assert (np.bincount(seen, minlength=split.item_count) == split.popularity()).all()
    assert max(batch.ids_BT.shape[1] for batch in batches) <= 7


def test_global_time_split_predicts_only_the_future(data: Dataset) -> None:
    with pytest.raises(DataError, match="timestamps"):
        split_global_time(data)
    events = pl.DataFrame({"user": [0, 0, 0, 1, 1], "item": [0, 1, 2, 1, 0], "time": [1, 5, 10, 2, 4]})
    timed = Dataset("timed", events, data.items, True, data.report, "")
    split = split_global_time(timed, valid_from=0.5, test_from=0.9)
    assert split.train_ends_U.tolist() == [1, 1]
    assert list(zip(split.test.users.tolist(), split.test.positions.tolist(), strict=True)) == [(0, 2)]


def test_rank_counts_better_scores_and_earlier_ties() -> None:
    scores = torch.tensor([[3.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    assert ranks(scores, torch.tensor([2, 3])).tolist() == [2, 4]
    torch.testing.assert_close(ndcg(torch.tensor([1.0, 2.0, 11.0])), torch.tensor([1.0, 0.63093, 0.0]))


def test_seen_items_are_masked_but_the_target_is_not() -> None:
    batch = EvaluationBatch(
        Batch(np.zeros((1, 1), np.int64), np.ones(1, np.int64)), np.array([2]), (np.array([0, 0]), np.array([1, 2]))
    )
    assert mask_seen(torch.zeros(1, 4), batch).tolist() == [[0.0, float("-inf"), 0.0, 0.0]]


@pytest.mark.parametrize("attributes", [0, 5])
def test_interrupted_run_ends_where_an_uninterrupted_one_does(data: Dataset, tmp_path: Path, attributes: int) -> None:
    split = split_leave_one_out(data)
    config = FitConfig(epochs=4, events_per_batch=400, evaluate_every=2, precision="float32")
    attributes_NV = some_attributes(split, attributes) if attributes else None

    class Interrupted(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Interrupted

    checkpoint = tmp_path / "run.pt"
    device = torch.device("cpu")
    whole = Fit(split, SHAPE, config, device, attributes_NV).run(lambda _: None)
    with pytest.raises(Interrupted):
        Fit(split, SHAPE, config, device, attributes_NV).run(stop, checkpoint)
    resumed = Fit(split, SHAPE, config, device, attributes_NV).run(lambda _: None, checkpoint)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.attributes_VD, resumed.attributes_VD)
    with pytest.raises(ValueError, match="other settings"):
        Fit(split, SHAPE, FitConfig(epochs=5), device, attributes_NV).run(lambda _: None, checkpoint)


def some_attributes(split: Split, count: int) -> torch.Tensor:
    """Each item has one value; the last column is a number."""
    values_NV = (torch.arange(split.item_count)[:, None] % 4 == torch.arange(count - 1)).float()
    return torch.cat([values_NV, torch.linspace(-2, 2, split.item_count)[:, None]], dim=1)


def test_items_vectors_are_learned_from_their_attributes_and_folded(data: Dataset) -> None:
    split, cpu = split_leave_one_out(data), torch.device("cpu")
    config = FitConfig(epochs=3, events_per_batch=400, evaluate_every=3, average_epochs=0.0, precision="float32")
    attributes_NV = some_attributes(split, 5)
    fit = Fit(split, SHAPE, config, cpu, attributes_NV)
    assert not bool(fit.best_attributes_VD.any())
    fitted = fit.run(lambda _: None)
    assert fitted.attributes_VD.shape == (5, SHAPE.hidden)
    assert bool((fitted.attributes_VD.norm(dim=1) > 0.01).all())
    learned = fit.model.eval()  # not averaged: it is what was folded
    own_ND = dict(learned.named_parameters())["items.parametrizations.weight.original"]
    torch.testing.assert_close(fitted.model.items.weight, own_ND + attributes_NV @ fitted.attributes_VD)
    assert set(fitted.model.state_dict()) == set(Recommender(SHAPE, split.item_count).state_dict())
    ids_BT, lengths_B = torch.randint(split.item_count, (6, 9)), torch.tensor([0, 1, 3, 5, 8, 9])
    with torch.no_grad():
        scores = [model.score(model.queries(ids_BT, lengths_B)) for model in (learned, fitted.model)]
    torch.testing.assert_close(*scores)


def test_an_item_without_events_gets_what_its_attributes_say(data: Dataset) -> None:
    """Items of a genre are taken up together, so what they have in common is learned: a new one scores as they do."""
    split, config = (
        split_leave_one_out(data),
        FitConfig(epochs=12, events_per_batch=400, learning_rate=1e-2, precision="float32"),
    )
    attributes_NV = (torch.arange(split.item_count)[:, None] % 4 == torch.arange(4)).float()  # its genre
    fitted = Fit(split, SHAPE, config, torch.device("cpu"), attributes_NV).run(lambda _: None)
    likeness_NV = torch.nn.functional.cosine_similarity(
        fitted.model.items.weight[:, None], fitted.attributes_VD[None], dim=-1
    )
    assert float((likeness_NV.argmax(1) == attributes_NV.argmax(1)).float().mean()) > 0.9


def test_a_resumed_run_keeps_the_precision_that_it_began_with(data: Dataset, tmp_path: Path) -> None:
    split, config, cpu = split_leave_one_out(data), FitConfig(epochs=1, events_per_batch=400), torch.device("cpu")
    begun = Fit(split, SHAPE, config, cpu)
    begun.dtype = torch.bfloat16
    begun.run(lambda _: None, tmp_path / "run.pt")
    resumed = Fit(split, SHAPE, config, cpu)
    resumed.dtype = torch.float32
    resumed.run(lambda _: None, tmp_path / "run.pt")
    assert resumed.dtype == torch.bfloat16


def test_sampled_softmax_learns_too(data: Dataset) -> None:
    losses: list[float] = []
    config = FitConfig(epochs=16, events_per_batch=400, negatives=20, learning_rate=1e-2)
    Fit(split_leave_one_out(data), SHAPE, config, torch.device("cpu")).run(lambda p: losses.append(p.loss))
    assert losses[-1] < losses[0]


def test_a_sample_of_targets_keeps_their_order_and_parts_lose_none() -> None:
    targets = Targets(np.arange(100, 150), np.arange(50))
    sample = targets.sample(20, seed=0)
    assert len(set(sample.users.tolist())) == 20
    assert (np.diff(sample.users) > 0).all()
    assert (sample.users - sample.positions == 100).all()
    assert targets.sample(80, seed=0).users.tolist() == targets.users.tolist()
    parts = targets.parts(20)
    assert [len(part.users) for part in parts] == [20, 20, 10]
    assert np.concatenate([part.positions for part in parts]).tolist() == list(range(50))
