"""Training and service compute the same window: neither imports the other, and this holds them together."""

from hypothesis import given
from hypothesis import strategies as st

from steersman_service.bundle.window import window_start as served
from steersman_training.data.sequences import window_start as trained


@given(st.integers(0, 10**6), st.integers(1, 500), st.integers(1, 500))
def test_both_packages_start_the_window_at_the_same_event(events: int, length: int, stride: int) -> None:
    assert served(events, length, min(stride, length)) == trained(events, length, min(stride, length))
