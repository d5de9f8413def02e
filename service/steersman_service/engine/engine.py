"""Computes a batch: lower -> (candidates) -> concept -> edit -> upper -> search, as proto/README.md orders them.

The engine does no edit arithmetic. It lays requests out as padded tensors, and hands each graph what it asks for by
name.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from steersman_service.bundle.bundle import ADD, GRAPHS, KEEPING_GRAPHS, STEER, Array, Bundle
from steersman_service.engine.backends.protocol import Backend, Tensor
from steersman_service.engine.groups import APPEND_CALL_POSITIONS, bounded_groups, length_groups, one_group
from steersman_service.engine.index.exact import NO_ROWS, Found, GraphIndex, Index, Terms
from steersman_service.engine.kv_cache import MOST_APPENDED, KeptHistory, KeyValueCache, Layout, Table
from steersman_service.engine.state_cache import StateCache

Observe = Callable[[str, float], None]
"""Takes a stage ("lower") and its seconds."""
# Of a number of a hidden state.
STATE_BYTES = 4
# For what is computed of a concept's candidates or of an edit's feature at a time, one array of it: a few such arrays live together. What
# takes more is computed in parts, so that memory does not grow with what a batch asks for.
CALL_BYTES = 32 << 20
# Numbers are double where a concept is solved.
SOLVED_BYTES = 8
# What `concept` may ask for: the items that are found, and their scores.
CANDIDATES = ("candidates_BK", "candidate_scores_BK")


class Edits(NamedTuple):
    """z' = gain * z + strength * scale for each of E features."""

    features_E: Array
    gains_E: Array
    strengths_E: Array


class Work(NamedTuple):
    """A request, as the graphs want it."""

    ids_T: Array
    """Item rows of the window, oldest first."""
    edits: Edits
    """The request's own, without those of its concepts."""
    concepts_C: Array
    """Concept rows."""
    concept_strengths_C: Array
    eligible_N: Array | None
    """Which items may be returned. None: all."""
    k: int
    """From 1 to the largest that the caller may ask for; it may exceed N."""
    tilts_N: Array | None = None
    """Added to the scores, float32. None adds nothing."""
    excluded_X: Array = NO_ROWS
    """Rows that may not be returned, whatever `eligible_N` says. Few, and each once."""
    grows: bool = False
    """The history is a session's: it will be asked for again, with more events."""
    state: bytes = b""
    """Its hidden state, D numbers of float32, if somebody computed it before; it is used where this process has none."""


class Answer(NamedTuple):
    """What came out for one request."""

    rows_K: Array
    """Item rows, best first, equal scores by row. Fewer than k only if fewer are eligible."""
    scores_K: Array
    concept_edits: list[Edits]
    """What each of its concepts came down to."""
    state: bytes = b""
    """The hidden state, if the history was read from its first event on, and grows."""
    queue_seconds: float = 0.0
    """From its arrival at the queue to the start of its batch."""
    inference_seconds: float = 0.0
    """Time of its whole batch."""
    batch_size: int = 1


class _Fresh(NamedTuple):
    """Histories whose states were computed together."""

    keys: list[bytes]
    h_BD: Tensor
    kept: list[KeptHistory]
    """What was read of each of them; none if nothing is kept."""
    whole: bool
    """They were read from their first events on."""


class _Lowered(NamedTuple):
    """What `lower` says of a batch."""

    pool: dict[str, Tensor]
    """Tensors with a row for each request."""
    fresh: list[_Fresh]
    """States that were not known before."""
    keys: list[bytes]
    """Of the history of each request; none where states do not stand alone."""


class Engine:
    """Not thread-safe: one thread calls it.

    A request costs what it asks for, whatever it shares a batch with: histories are computed beside others of about
    their length, each once, and not at all where the state is kept from before; candidates, concepts and edits are
    computed for those requests alone that have any. Of a history whose begin was read before, its new events are.
    """

    observe: Observe
    """Told of every graph that runs. It may be set when golden rows and warm-up, which are no requests, are over."""
    states: StateCache
    """Keeps hidden states from one batch to another. It holds none until another one is set."""
    key_values: KeyValueCache
    """Keeps what was read of histories. It holds none until another one is set, and stays empty where `keeps_histories` is false."""
    groups: Callable[[Array], list[Array]]
    """Cuts histories, by their lengths, into those that `lower` computes together."""
    append_groups: Callable[[Array], list[Array]]
    """The same for those that are appended to."""
    index: Index
    """Finds the best items. It is the bundle's graph `search` until another one is set."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self.observe = lambda stage, seconds: None
        self.states = StateCache(0)
        self.key_values = KeyValueCache(0)
        # The item table is fed, not baked in: the graphs share one copy.
        self._constants = {
            "items_ND": backend.put(bundle.items_ND),
            "biases_N": backend.put(bundle.biases_N),
        }
        self._inputs = {name: [tensor.name for tensor in graph.inputs] for name, graph in bundle.graphs.items()}
        # After the last block the hidden state is the query (proto/README.md), and `upper` has nothing to do.
        self._is_query = bundle.manifest.hook.block == bundle.manifest.hook.blocks
        # Below it, `upper` asks for every position of the batch as it was laid out: it stays as it is.
        self._stands_alone = self._reads_of_lower() <= {"h_BD"}
        # A GPU computes padding beside events, and what it waits for is calls.
        self.groups = length_groups if backend.device == "cpu" else one_group
        self.append_groups = partial(length_groups, call_positions=APPEND_CALL_POSITIONS)
        # They are kept in the host's memory: whether to bring them to a GPU pays has not been measured.
        self.keeps_histories = (
            self._stands_alone and bundle.graphs.keys() >= set(KEEPING_GRAPHS) and backend.device == "cpu"
        )
        tensors = [tensor.name for tensor in bundle.graphs["keep"].outputs] if self.keeps_histories else []
        self._layout = Layout([name for name in tensors if name in self._inputs["append"]])
        self._table = Table()
        self.index = GraphIndex(backend, self._constants, partial(self._run, "search"), len(bundle.items_ND))

    def run(self, batch: Sequence[Work]) -> list[Answer]:
        """Answers each request as it would be answered alone."""
        lowered = self._lower(batch)
        pool = self._constants | lowered.pool
        concept_edits, ranked = self._steer(batch, pool) if self._steers(batch) else self._follow(batch, pool)
        # Last, so that a GPU has been told everything before it is waited for.
        rows_BK, scores_BK, *fresh = self.backend.fetch([*ranked, *(part.h_BD for part in lowered.fresh)])
        self._keep(lowered, fresh)
        states = self._to_share(batch, lowered, fresh)
        return [
            Answer(*_eligible(rows_K[: work.k], scores_K[: work.k]), own, state)
            for work, rows_K, scores_K, own, state in zip(batch, rows_BK, scores_BK, concept_edits, states, strict=True)
        ]

    def works(self) -> bool:
        """Whether it computes anything at all: a GPU that had a fault does not, for as long as its process lives."""
        nobody = Edits(NO_ROWS, np.zeros(0, np.float32), np.zeros(0, np.float32))
        try:
            self.run([Work(np.zeros(1, np.int64), nobody, NO_ROWS, np.zeros(0, np.float32), None, 1)])
        except Exception:
            return False
        return True

    @property
    def tables(self) -> dict[str, Tensor]:
        """The item table and the biases, on the device."""
        return self._constants

    def cost(self, work: Work) -> tuple[float, ...]:
        vectors = (work.eligible_N is not None) + (work.tilts_N is not None)
        return 1, self.positions(work), len(work.concepts_C), vectors

    def positions(self, work: Work) -> int:
        """Events of its history that would be read if it were computed now. May be called from any thread, unlike all else."""
        if not self._stands_alone:
            return len(work.ids_T)
        key = StateCache.key(work.ids_T)
        if work.state or self.states.knows(key):
            return 0
        return self.key_values.new_events(key) if self.keeps_histories else len(work.ids_T)

    def replay(self, graph: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """Outputs of one graph for the given inputs; the item table is added."""
        outputs = self._stage(graph, self._constants | self._put(inputs))
        return {name: self.backend.get(tensor) for name, tensor in outputs.items()}

    def _lower(self, batch: Sequence[Work]) -> _Lowered:
        """Hidden states: kept ones, those of histories that are new, group by group, and all of them in the order of the batch."""
        if not self._stands_alone:
            history = self._put(_history([work.ids_T for work in batch]))
            return _Lowered(history | self._stage("lower", self._constants | history), [], [])
        keys = [StateCache.key(work.ids_T) for work in batch]
        windows = dict(zip(keys, (work.ids_T for work in batch), strict=True))
        kept = {key: state for key in windows if (state := self.states.get(key)) is not None}
        for key, work in zip(keys, batch, strict=True):
            if key not in kept and len(work.state) == STATE_BYTES * self.bundle.manifest.shape.hidden:
                kept[key] = work.state
                self.states.put(key, np.frombuffer(work.state, np.float32))
        growing = {key for key, work in zip(keys, batch, strict=True) if work.grows}
        fresh = self._compute({key: ids_T for key, ids_T in windows.items() if key not in kept}, growing)
        self.states.observe(len(keys) - len(windows) + len(kept), len(windows) - len(kept))
        for key in kept:
            self.key_values.touch(key)
        places = {key: place for place, key in enumerate([*kept, *(key for part in fresh for key in part.keys)])}
        rows = [places[key] for key in keys]
        parts = [part.h_BD for part in fresh]
        if kept:
            kept_BD = np.frombuffer(b"".join(kept.values()), np.float32).reshape(len(kept), -1)
            parts.insert(0, self.backend.put(kept_BD))
        in_order = len(parts) == 1 and rows == list(range(len(rows)))
        return _Lowered({"h_BD": parts[0] if in_order else self.backend.take(parts, np.array(rows))}, fresh, keys)

    def _compute(self, windows: Mapping[bytes, Array], growing: Collection[bytes]) -> list[_Fresh]:
        """States of histories that are new: of those whose begin was kept, only the events after it are read."""
        if not (self.keeps_histories and self.key_values.limit_bytes):
            return self._read("lower", windows)
        grown = {key: history for key in windows if (history := self.key_values.take(key)) is not None}
        self.key_values.observe(len(grown), len(windows) - len(grown))
        # Keeping takes time and memory: it is for those that grow. Explicit histories show it when they have grown once.
        whole = {
            key: key in growing or self.states.knows_begin(key, MOST_APPENDED) for key in windows if key not in grown
        }
        return [
            *self._append(windows, grown),
            *self._read("keep", {key: windows[key] for key, keep in whole.items() if keep}),
            *self._read("lower", {key: windows[key] for key, keep in whole.items() if not keep}),
        ]

    def _read(self, graph: str, windows: Mapping[bytes, Array]) -> list[_Fresh]:
        """Histories from their first event on, group by group, by `lower`, or by `keep`."""
        if not windows:
            return []
        start = time.perf_counter()
        keys, histories = list(windows), list(windows.values())
        fresh = []
        for group in self.groups(np.array([len(ids_T) for ids_T in histories])):
            own = [histories[row] for row in group]
            outputs = self._run(graph, self._constants | self._put(_history(own)))
            kept = self._kept(own, outputs) if graph == "keep" else []
            fresh.append(_Fresh([keys[row] for row in group], outputs["h_BD"], kept, whole=True))
        self.observe("lower", time.perf_counter() - start)
        return fresh

    def _kept(self, histories: Sequence[Array], outputs: Mapping[str, Tensor]) -> list[KeptHistory]:
        tensors = [self.backend.get(outputs[name]) for name in self._layout.names]
        most = self.bundle.manifest.window.length
        return [
            KeptHistory(self._layout, len(ids_T), [tensor[row] for tensor in tensors], most)
            for row, ids_T in enumerate(histories)
        ]

    def _append(self, windows: Mapping[bytes, Array], grown: Mapping[bytes, KeptHistory]) -> list[_Fresh]:
        """Histories from their first new event on: those with as many of them together, group by group, event by event."""
        if not grown:
            return []
        start = time.perf_counter()
        fresh = []
        by_events: dict[int, list[bytes]] = {}
        for key, history in grown.items():
            by_events.setdefault(len(windows[key]) - history.events, []).append(key)
        for events, keys in by_events.items():
            for group in self.append_groups(np.array([grown[key].events for key in keys])):
                own = [keys[row] for row in group]
                histories = [grown[key] for key in own]
                for _ in range(events):
                    h_BD = self._append_one([windows[key] for key in own], histories)
                fresh.append(_Fresh(own, h_BD, histories, whole=False))
        self.observe("append", time.perf_counter() - start)
        return fresh

    def _append_one(self, windows: Sequence[Array], histories: Sequence[KeptHistory]) -> Tensor:
        """The states after one more event of each history. (B, D)"""
        lengths_B = [history.events for history in histories]
        feeds = {
            "new_ids_B": np.array([ids_T[length] for ids_T, length in zip(windows, lengths_B, strict=True)], np.int64),
            "kept_lengths_B": np.array(lengths_B, np.int64),
            **self._table.lay(histories),
        }
        outputs = self._run("append", self._constants | self._put(feeds))
        for history, added_LD in zip(histories, self.backend.get(outputs["added_BLD"]), strict=True):
            history.append(added_LD)
        return outputs["h_BD"]

    def _keep(self, lowered: _Lowered, fresh: Sequence[Array]) -> None:
        for part, h_BD in zip(lowered.fresh, fresh, strict=True):
            if self.states.limit_bytes:
                for key, h_D in zip(part.keys, h_BD, strict=True):
                    self.states.put(key, h_D)
            for key, history in zip(part.keys, part.kept, strict=False):
                self.key_values.put(key, history)

    def _to_share(self, batch: Sequence[Work], lowered: _Lowered, fresh: Sequence[Array]) -> list[bytes]:
        """The state of each request whose history grows and was read whole; nothing for the others."""
        whole = {
            key: h_D
            for part, h_BD in zip(lowered.fresh, fresh, strict=True)
            if part.whole
            for key, h_D in zip(part.keys, h_BD, strict=True)
        }
        if not whole:
            return [b""] * len(batch)
        return [
            whole[key].tobytes() if work.grows and key in whole else b""
            for work, key in zip(batch, lowered.keys, strict=True)
        ]

    def _follow(self, batch: Sequence[Work], pool: dict[str, Tensor]) -> tuple[list[list[Edits]], Found]:
        """What each request's concepts come down to, and the best items under all controls."""
        concept_edits = self._concepts(batch, pool)
        return concept_edits, self._rank(batch, pool | {"h_BD": self._edit(batch, concept_edits, pool)})

    def _steers(self, batch: Sequence[Work]) -> bool:
        """Whether the graph `steer` can answer: it has the item table looked through for all, and concepts solved for all, at once."""
        if STEER not in self._inputs or not isinstance(self.index, GraphIndex):
            return False
        counts_B = _concept_counts(batch)
        return bool(counts_B.all()) and len(bounded_groups(counts_B, self._solved_together)) == 1

    def _steer(self, batch: Sequence[Work], pool: dict[str, Tensor]) -> tuple[list[list[Edits]], Found]:
        """The same as `_follow` in one call, but for the edits of the requests' own."""
        assert isinstance(self.index, GraphIndex)
        edited_BD = self._edit(batch, [[]] * len(batch), pool)
        given = self.index.given(*self._terms(batch))
        outputs = self._stage(STEER, pool | given | self._put(_concepts(batch)) | {"edited_BD": edited_BD})
        return self._resolved(batch, outputs), Found(outputs["rows_BK"], outputs["scores_BK"])

    def _concepts(self, batch: Sequence[Work], pool: dict[str, Tensor]) -> list[list[Edits]]:
        """What the concepts of each request come down to."""
        counts_B = _concept_counts(batch)
        edits: list[list[Edits]] = [[] for _ in batch]
        for rows in _groups_of(counts_B, self._solved_together):
            asked = self._of(rows, batch, pool, ("concept", "upper", "search"))
            for row, own in zip(rows, self._solve([batch[row] for row in rows], asked), strict=True):
                edits[row] = own
        return edits

    @property
    def _solved_together(self) -> int:
        """Concepts, padding included, that may be solved at once: each takes a number for every candidate and feature."""
        golden = self.bundle.golden["concept"]
        candidates = golden["candidates_BK"].shape[1] if "candidates_BK" in golden else 1
        numbers = candidates * golden["concept_features_BE"].shape[1] / golden["concepts_BC"].shape[1]
        return int(CALL_BYTES / (SOLVED_BYTES * numbers))

    def _solve(self, batch: Sequence[Work], pool: dict[str, Tensor]) -> list[list[Edits]]:
        """The same where every request names a concept, and all are solved at once."""
        feeds = pool | self._put(_concepts(batch))
        if "candidates_BK" in self._inputs["concept"]:
            count = self.bundle.golden["concept"]["candidates_BK"].shape[1]
            # Without tilts, as without edits: what a concept comes down to depends on no other control.
            found = self._rank([work._replace(k=count, tilts_N=None) for work in batch], pool)
            feeds |= dict(zip(CANDIDATES, found, strict=True))
        return self._resolved(batch, self._stage("concept", feeds))

    def _resolved(self, batch: Sequence[Work], outputs: Mapping[str, Tensor]) -> list[list[Edits]]:
        """What the concepts of each request came down to, of what a graph says."""
        names = ("concept_features_BE", "concept_gains_BE", "concept_edits_BE")
        width = max(len(work.concepts_C) for work in batch)
        fetched = self.backend.fetch([outputs[name] for name in names])
        blocks = [array.reshape(len(batch), width, -1) for array in fetched]
        return [
            [_unpad(Edits(*(block[row, c] for block in blocks))) for c in range(len(work.concepts_C))]
            for row, work in enumerate(batch)
        ]

    def _edit(self, batch: Sequence[Work], concept_edits: Sequence[Sequence[Edits]], pool: dict[str, Tensor]) -> Tensor:
        """Hidden states after all edits of each request, its own and those of its concepts."""
        edits = [
            _joined([work.edits, *others]) if others else work.edits
            for work, others in zip(batch, concept_edits, strict=True)
        ]
        # An edit takes its feature's direction.
        most = CALL_BYTES // (STATE_BYTES * self.bundle.manifest.shape.hidden)
        groups = _groups_of(np.array([len(own.features_E) for own in edits]), most)
        adds = ADD in self._inputs and all((own.gains_E == 1).all() for own in edits)
        start = time.perf_counter()
        parts, places, count = [pool["h_BD"]], np.arange(len(batch)), len(batch)
        for rows in groups:
            feeds = self._of(rows, batch, pool, ("edit",)) | self._put(_padded([edits[row] for row in rows]))
            parts.append(self._run(ADD, feeds)["added_BD"] if adds else self._run("edit", feeds)["edited_BD"])
            places[rows] = count + np.arange(len(rows))
            count += len(rows)
        if groups:
            self.observe("edit", time.perf_counter() - start)
        if not groups or groups[0] == list(range(len(batch))):
            return parts[-1]
        return self.backend.take(parts, places)

    def _rank(self, batch: Sequence[Work], pool: dict[str, Tensor]) -> Found:
        query_BD = pool["h_BD"] if self._is_query else self._stage("upper", pool)["query_BD"]
        start = time.perf_counter()
        found = self.index.search(query_BD, *self._terms(batch))
        self.observe("search", time.perf_counter() - start)
        return found

    def _terms(self, batch: Sequence[Work]) -> tuple[list[Terms], list[int]]:
        """What each request says about items, and how many it wants."""
        terms = [Terms(work.eligible_N, work.excluded_X, work.tilts_N) for work in batch]
        return terms, [min(work.k, len(self.bundle.items_ND)) for work in batch]

    def _of(
        self, rows: Sequence[int], batch: Sequence[Work], pool: dict[str, Tensor], graphs: Sequence[str]
    ) -> dict[str, Tensor]:
        """What `graphs` ask of the pool, with those requests of the batch alone that `rows` names."""
        wanted = {name: pool[name] for graph in graphs for name in self._inputs[graph] if name in pool}
        if len(rows) < len(batch):
            wanted |= {
                name: self.backend.take([tensor], np.array(rows))
                for name, tensor in wanted.items()
                if name.rpartition("_")[2].startswith("B")
            }
        return wanted

    def _reads_of_lower(self) -> set[str]:
        """What the graphs that follow ask of a history."""
        asked = {name for graph in GRAPHS if graph != "lower" for name in self._inputs[graph]}
        return asked & {"ids_BT", "lengths_B", *(tensor.name for tensor in self.bundle.graphs["lower"].outputs)}

    def _stage(self, graph: str, pool: dict[str, Tensor]) -> dict[str, Tensor]:
        start = time.perf_counter()
        outputs = self._run(graph, pool)
        self.observe(graph, time.perf_counter() - start)
        return outputs

    def _run(self, graph: str, pool: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.backend.run(graph, {name: pool[name] for name in self._inputs[graph]})

    def _put(self, arrays: dict[str, Array]) -> dict[str, Tensor]:
        return {name: self.backend.put(array) for name, array in arrays.items()}


def _history(windows: Sequence[Array]) -> dict[str, Array]:
    lengths = [len(ids_T) for ids_T in windows]
    return {"ids_BT": _pad(windows, max(1, *lengths), 0, np.int64), "lengths_B": np.array(lengths, np.int64)}


def _concepts(batch: Sequence[Work]) -> dict[str, Array]:
    width = max(len(work.concepts_C) for work in batch)
    return {
        "concepts_BC": _pad([work.concepts_C for work in batch], width, 0, np.int64),
        "concept_strengths_BC": _pad([work.concept_strengths_C for work in batch], width, 0, np.float32),
    }


def _concept_counts(batch: Sequence[Work]) -> Array:
    return np.array([len(work.concepts_C) for work in batch])


def _groups_of(widths_B: Array, most: int) -> list[list[int]]:
    """Rows whose width is not 0, in `bounded_groups`."""
    rows = np.flatnonzero(widths_B)
    return [rows[group].tolist() for group in bounded_groups(widths_B[rows], most)] if len(rows) else []


def _joined(edits: Sequence[Edits]) -> Edits:
    return Edits(*(np.concatenate(parts) for parts in zip(*edits, strict=True)))


def _padded(rows: Sequence[Edits]) -> dict[str, Array]:
    width = max(len(edits.features_E) for edits in rows)
    return {
        "features_BE": _pad([edits.features_E for edits in rows], width, 0, np.int64),
        "gains_BE": _pad([edits.gains_E for edits in rows], width, 1, np.float32),
        "strengths_BE": _pad([edits.strengths_E for edits in rows], width, 0, np.float32),
    }


def _unpad(edits: Edits) -> Edits:
    real = (edits.gains_E != 1) | (edits.strengths_E != 0)
    return Edits(edits.features_E[real], edits.gains_E[real], edits.strengths_E[real])


def _pad(rows: Sequence[Array], width: int, fill: float, dtype: type[np.generic]) -> Array:
    if len(rows) == 1 and len(rows[0]) == width:
        return np.asarray(rows[0], dtype)[None]
    padded = np.full((len(rows), width), fill, dtype)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return padded


def _eligible(rows_K: Array, scores_K: Array) -> tuple[Array, Array]:
    real = scores_K > -np.inf
    return rows_K[real], scores_K[real]
