"""Histories read event by event are those read at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.bundle.graphs import Lower
from steersman_training.recommender.kept import Append, Keep, Kept
from steersman_training.recommender.model import Recommender, RecommenderConfig


@pytest.fixture(scope="module", params=[1, 2])
def model(request: pytest.FixtureRequest) -> Recommender:
    """Of one block, or of two, with weights large enough for everything to matter."""
    generator = torch.Generator().manual_seed(0)
    config = RecommenderConfig(hidden=16, blocks=request.param, window_length=10, window_stride=2)
    model = Recommender(config, 30).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model


def test_keeping_changes_no_state(model: Recommender) -> None:
    ids_BT, lengths_B = torch.randint(30, (5, 10)), torch.tensor([0, 1, 4, 9, 10])
    kept_BD = Keep(model)(model.items.weight, ids_BT, lengths_B)[0]
    assert torch.equal(kept_BD, Lower(model)(model.items.weight, ids_BT, lengths_B)[0])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 2**32))
def test_an_event_more_is_as_if_it_had_been_there(model: Recommender, lengths: list[int], seed: int) -> None:
    """The state, and what is kept for the event after it; rows beside each other have lengths of their own."""
    items_ND, lengths_B = model.items.weight, torch.tensor(lengths)
    ids_BT = torch.randint(30, (len(lengths), 10), generator=torch.Generator().manual_seed(seed))
    rows = torch.arange(len(lengths))
    before = Keep(model)(items_ND, ids_BT, lengths_B)[1:]
    h_BD, added_BLD = Append(model)(items_ND, ids_BT[rows, lengths_B], lengths_B, *before)
    wanted_BD, *wanted = Keep(model)(items_ND, ids_BT, lengths_B + 1)
    torch.testing.assert_close(h_BD, wanted_BD, rtol=1e-5, atol=1e-5)
    assert added_BLD.shape[1] == len(before) == len(Kept._fields) * model.config.blocks
    for place, tensor in enumerate(wanted):
        recent = place % len(Kept._fields) == Kept._fields.index("recent_BRD")
        last_BD = tensor[:, -1] if recent else tensor[rows, lengths_B + 1]
        torch.testing.assert_close(added_BLD[:, place], last_BD, rtol=1e-5, atol=1e-5)
