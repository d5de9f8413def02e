"""What all commands of training do first."""

import pytest
import torch

from steersman_training.options import pick_device


def test_no_more_threads_than_the_container_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for given, taken in ((4, 3), (2, 2)):
            monkeypatch.setattr("loky.cpu_count", lambda given=given: given)
            assert pick_device("cpu") == torch.device("cpu")
            assert torch.get_num_threads() == taken
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["gpu", ""])
def test_a_device_that_there_is_not(name: str) -> None:
    with pytest.raises(ValueError, match="is not auto, cpu or cuda"):
        pick_device(name)
