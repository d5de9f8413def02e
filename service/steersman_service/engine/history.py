"""Histories -> hidden states: read whole by `lower`, kept by `keep`, or grown by `append` (proto/README.md).

Dimensions: B batch, T events, D hidden, L kept tensors.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from steersman_service.bundle.bundle import GRAPHS, KEEPING_GRAPHS, Array
from steersman_service.engine.backends.protocol import Tensor
from steersman_service.engine.caches import KeyValueCache, StateCache, history_key, prefixes
from steersman_service.engine.graphs import Graphs, Pool
from steersman_service.engine.groups import APPEND_CALL_POSITIONS, length_groups, one_group
from steersman_service.engine.kept_history import KeptHistory, PaddingBuffer
from steersman_service.engine.observer import SILENT, Observer, timed
from steersman_service.engine.padding import padded_windows
from steersman_service.engine.request import EngineRequest

Grouping = Callable[[Array], list[Array]]
"""Lengths of histories -> rows of those that are computed together."""


class ComputedStates(NamedTuple):
    """States of histories that were computed in one group."""

    keys: list[bytes]
    h_BD: Tensor
    kept: list[KeptHistory]
    """Keys and values of each; empty where none are kept."""


class BatchStates(NamedTuple):
    """Hidden states of a batch."""

    pool: Pool
    """`h_BD`, a row for each request, and whatever else later graphs ask of the history."""
    computed: list[ComputedStates]
    """What was not in the cache. Empty where states are not cached."""


class HistoryReader:
    """Reads each history of a batch once, beside others of about its length; not at all where its state is kept.

    Of a history whose prefix is kept, only the new events are read. A history is kept if it will grow: a session's, or an
    explicit one that has grown before.
    """

    def __init__(
        self,
        graphs: Graphs,
        *,
        state_bytes: int = 0,
        kv_bytes: int = 0,
        groups: Grouping | None = None,
        append_groups: Grouping | None = None,
        observer: Observer = SILENT,
    ) -> None:
        """`groups` and `append_groups` default to the cheapest ones of the device. Caches of 0 bytes hold nothing."""
        bundle, on_cpu = graphs.bundle, graphs.backend.device == "cpu"
        self.states = StateCache(state_bytes)
        self.key_values = KeyValueCache(kv_bytes, observer.kv_evicted)
        self._graphs = graphs
        self._observer = observer
        # A GPU computes padding beside events, and every call costs it time.
        self._groups = groups or (length_groups if on_cpu else one_group)
        self._append_groups = append_groups or partial(length_groups, call_positions=APPEND_CALL_POSITIONS)
        # Below the last block, `upper` asks for every position of the batch as it was padded.
        self._cacheable = self._asked_later() <= {"h_BD"}
        # Kept histories lie in the host's memory: whether it pays to bring them to a GPU has not been measured.
        self.can_keep = self._cacheable and on_cpu and bundle.graphs.keys() >= set(KEEPING_GRAPHS)
        kept = [tensor.name for tensor in bundle.graphs["keep"].outputs] if self.can_keep else []
        self._kept_names = [name for name in graphs.inputs.get("append", []) if name in kept]
        self._buffer = PaddingBuffer()

    def read(self, batch: Sequence[EngineRequest]) -> BatchStates:
        if not self._cacheable:
            history = self._graphs.put(padded_windows([request.ids_T for request in batch]))
            with timed(self._observer, "lower"):
                return BatchStates(history | self._graphs.run("lower", history), [])
        now = time.monotonic()
        self.states.age(now)
        self.key_values.age(now)
        keys = [history_key(request.ids_T) for request in batch]
        windows = dict(zip(keys, (request.ids_T for request in batch), strict=True))
        known = {key: state for key in windows if (state := self.states.get(key)) is not None}
        growing = {key for key, request in zip(keys, batch, strict=True) if request.grows}
        computed = self._compute({key: ids_T for key, ids_T in windows.items() if key not in known}, growing)
        self._observer.state_cache(len(keys) - len(windows) + len(known), len(windows) - len(known))
        for key in known:
            self.key_values.get(key)  # used again
        return BatchStates({"h_BD": self._in_order(keys, known, computed)}, computed)

    def keep(self, computed: Sequence[ComputedStates], states: Sequence[Array]) -> None:
        """Caches what `read` computed; `states` are its `h_BD` as arrays."""
        for part, h_BD in zip(computed, states, strict=True):
            if self.states.limit_bytes:
                for key, h_D in zip(part.keys, h_BD, strict=True):
                    self.states.put(key, h_D.tobytes())
            for key, history in zip(part.keys, part.kept, strict=False):
                self.key_values.put(key, history)

    def new_events(self, request: EngineRequest) -> int:
        """Events that would be read if it were computed now. May be called from any thread."""
        if not self._cacheable:
            return len(request.ids_T)
        key = history_key(request.ids_T)
        return 0 if key in self.states else self.key_values.new_events(key)

    def _compute(self, windows: Mapping[bytes, Array], growing: Collection[bytes]) -> list[ComputedStates]:
        """States of histories, each by the cheapest graph."""
        if not (self.can_keep and self.key_values.limit_bytes):
            return self._read_whole("lower", windows)
        grown = {key: history for key in windows if (history := self.key_values.take(key)) is not None}
        self._observer.kv_cache(len(grown), len(windows) - len(grown))
        by_graph: dict[str, dict[bytes, Array]] = {"keep": {}, "lower": {}}
        for key in windows:
            if key not in grown:
                grows = key in growing or any(prefix in self.states for prefix in prefixes(key))
                by_graph["keep" if grows else "lower"][key] = windows[key]
        whole = (states for graph, own in by_graph.items() for states in self._read_whole(graph, own))
        return [*self._append(windows, grown), *whole]

    def _read_whole(self, graph: str, windows: Mapping[bytes, Array]) -> list[ComputedStates]:
        """By `lower`, or by `keep`, whose keys and values are kept."""
        if not windows:
            return []
        keys, histories, computed = list(windows), list(windows.values()), []
        with timed(self._observer, "lower"):
            for group in self._groups(np.array([len(ids_T) for ids_T in histories])):
                own = [histories[row] for row in group]
                outputs = self._graphs.run(graph, self._graphs.put(padded_windows(own)))
                kept = self._kept(own, outputs) if graph == "keep" else []
                computed.append(ComputedStates([keys[row] for row in group], outputs["h_BD"], kept))
        return computed

    def _kept(self, windows: Sequence[Array], outputs: Pool) -> list[KeptHistory]:
        tensors = {name: self._graphs.backend.get(outputs[name]) for name in self._kept_names}
        most = self._graphs.bundle.manifest.window.length
        return [
            KeptHistory(len(ids_T), {name: tensor[row] for name, tensor in tensors.items()}, most)
            for row, ids_T in enumerate(windows)
        ]

    def _append(self, windows: Mapping[bytes, Array], grown: Mapping[bytes, KeptHistory]) -> list[ComputedStates]:
        """Event by event: in a group, all have as many new ones."""
        if not grown:
            return []
        computed = []
        by_events: dict[int, list[bytes]] = {}
        for key, history in grown.items():
            by_events.setdefault(len(windows[key]) - history.events, []).append(key)
        with timed(self._observer, "append"):
            for events, keys in by_events.items():
                for group in self._append_groups(np.array([grown[key].events for key in keys])):
                    own = [keys[row] for row in group]
                    histories = [grown[key] for key in own]
                    for _ in range(events):
                        h_BD = self._append_event([windows[key] for key in own], histories)
                    computed.append(ComputedStates(own, h_BD, histories))
        return computed

    def _append_event(self, windows: Sequence[Array], histories: Sequence[KeptHistory]) -> Tensor:
        """The states after one more event of each history. (B, D)"""
        lengths = [history.events for history in histories]
        feeds = {
            "new_ids_B": np.array([ids_T[length] for ids_T, length in zip(windows, lengths, strict=True)], np.int64),
            "kept_lengths_B": np.array(lengths, np.int64),
            **self._buffer.padded(histories),
        }
        outputs = self._graphs.run("append", self._graphs.put(feeds))
        for history, added_LD in zip(histories, self._graphs.backend.get(outputs["added_BLD"]), strict=True):
            history.append(added_LD)
        return outputs["h_BD"]

    def _in_order(
        self, keys: Sequence[bytes], known: Mapping[bytes, bytes], computed: Sequence[ComputedStates]
    ) -> Tensor:
        """Known and computed states as rows, in the order of `keys`. (B, D)"""
        parts = [part.h_BD for part in computed]
        if known:
            known_BD = np.frombuffer(b"".join(known.values()), np.float32).reshape(len(known), -1)
            parts.insert(0, self._graphs.backend.put(known_BD))
        held = [*known, *(key for part in computed for key in part.keys)]
        if len(parts) == 1 and held == keys:
            return parts[0]
        places = {key: place for place, key in enumerate(held)}
        return self._graphs.backend.take(parts, np.array([places[key] for key in keys]))

    def _asked_later(self) -> set[str]:
        """What the graphs after `lower` ask of a history."""
        graphs = self._graphs
        asked = {name for graph in GRAPHS if graph != "lower" for name in graphs.inputs[graph]}
        return asked & {"ids_BT", "lengths_B", *(tensor.name for tensor in graphs.bundle.graphs["lower"].outputs)}
