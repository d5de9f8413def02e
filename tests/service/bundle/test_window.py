from hypothesis import given
from hypothesis import strategies as st

from steersman_service.bundle.window import in_window, window_start

windows = st.integers(1, 30).flatmap(lambda length: st.tuples(st.just(length), st.integers(1, length)))


@given(st.integers(0, 300), windows)
def test_the_start_moves_in_strides_and_leaves_a_full_window(total: int, window: tuple[int, int]) -> None:
    length, stride = window
    start = window_start(total, length, stride)
    assert start % stride == 0
    if total <= length:
        assert start == 0
    else:
        assert length - stride + 1 <= total - start <= length


@given(st.integers(0, 300), windows, st.data())
def test_dropped_events_do_not_change_the_window(total: int, window: tuple[int, int], data: st.DataObject) -> None:
    length, stride = window
    history = [str(event) for event in range(total)]
    kept = data.draw(st.integers(min(length, total), total), label="kept events")
    assert in_window(history[total - kept :], total, length, stride) == in_window(history, total, length, stride)
    assert in_window(history, total, length, stride) == history[window_start(total, length, stride) :]
