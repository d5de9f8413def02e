"""Replays a function of tensors from CUDA graphs, one for each of some sizes of its inputs: one launch instead of a hundred."""

from collections.abc import Callable, Sequence

import torch

Tensors = tuple[torch.Tensor, ...]
# As PyTorch's documentation has it: what is done once (memory of a library, loading of a kernel) must precede a capture.
WARM_UPS = 3
TOLERANCE = 1e-4
"""Of a recording against its function, absolute and relative."""


class Recorder:
    """Records CUDA graphs on a GPU; on a CPU, for tests, the function itself.

    Recordings share memory, so they must be replayed on one stream. After a capture that failed, PyTorch's allocator may think that it
    goes on: nothing may be recorded any more, on any recorder.
    """

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        if self._on_gpu:
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def record(self, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        """Replays `run`, and the tensors that a replay writes to."""
        if not self._on_gpu:
            return _repeated(run)
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        # Where a capture fails, `torch.cuda.graph` does not put back the stream that was current before. This does.
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                run()
            # Other threads may do what they like; what this one may not do still fails.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                outputs = run()
        torch.cuda.current_stream().wait_stream(self._stream)
        return graph.replay, outputs


def _repeated(run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
    outputs = run()

    def replay() -> None:
        for output, again in zip(outputs, run(), strict=True):
            output.copy_(again)

    return replay, outputs


class Replayed:
    """A function of tensors with a row for each request, independent of the other rows.

    Inputs that fit a recording are padded to the smallest one; for others, the function runs.
    """

    def __init__(self, run: Callable[..., Tensors], fills: Sequence[float | None]) -> None:
        """`fills` pads the inputs in the other dimensions. None: an input that is the same tensor in every call."""
        self._run = run
        self._fills = fills
        self._recordings: list[_Recording] = []

    def __call__(self, *inputs: torch.Tensor) -> Tensors:
        found = next((one for one in self._recordings if one.takes(inputs)), None)
        return self._run(*inputs) if found is None else found(inputs)

    def record(self, recorder: Recorder, example: Tensors) -> None:
        """For inputs up to the size of `example`, whose memory the recording takes over. Raises RuntimeError if it fails."""
        self._recordings.append(_Recording(self._run, self._fills, recorder, example))
        self._recordings.sort(key=lambda one: one.size)


class _Recording:
    def __init__(
        self, run: Callable[..., Tensors], fills: Sequence[float | None], recorder: Recorder, example: Tensors
    ) -> None:
        self._fills = fills
        self._inputs = example
        # A slice would keep all that it was cut from.
        self._replay, self._outputs = recorder.record(lambda: tuple(one.contiguous() for one in run(*example)))
        self.size = sum(own.numel() for own, fill in zip(example, fills, strict=True) if fill is not None)
        self._check(run(*example))

    def takes(self, inputs: Tensors) -> bool:
        return all(
            given is own if fill is None else all(a <= b for a, b in zip(given.shape, own.shape, strict=True))
            for given, own, fill in zip(inputs, self._inputs, self._fills, strict=True)
        )

    def __call__(self, inputs: Tensors) -> Tensors:
        rows = 0
        for given, own, fill in zip(inputs, self._inputs, self._fills, strict=True):
            if fill is not None:
                rows = len(given)
                _lay(given, own[:rows], fill)
        self._replay()
        # The next replay of any recording may write there before this is read.
        return tuple(output[:rows].clone() for output in self._outputs)

    def _check(self, wanted: Tensors) -> None:
        for output in self._outputs:
            output.zero_()
        self._replay()
        for output, other in zip(self._outputs, wanted, strict=True):
            if not torch.allclose(output, other, TOLERANCE, TOLERANCE):
                sizes = ", ".join(str(list(tensor.shape)) for tensor in self._inputs)
                raise RuntimeError(f"a recording for {sizes} does not give what was recorded")


def _lay(given: torch.Tensor, own: torch.Tensor, fill: float) -> None:
    """Rows beyond the given ones keep what was there: it is valid, and is not returned."""
    if given.shape[1:] != own.shape[1:]:
        own.fill_(fill)
        own = own[tuple(slice(size) for size in given.shape)]
    own.copy_(given)
