"""Controls -> edited hidden states: concepts are resolved to edits, and all edits are applied, by the graphs `concept` and `edit`.

Dimensions: B batch, D hidden, E edits, C concepts, K candidates.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from steersman_service.bundle.bundle import ADD
from steersman_service.engine.backends.protocol import Tensor
from steersman_service.engine.graphs import Graphs, Pool
from steersman_service.engine.groups import bounded_groups
from steersman_service.engine.observer import SILENT, Observer, timed
from steersman_service.engine.padding import padded_concepts, padded_edits
from steersman_service.engine.request import Edits, EngineRequest, variants_together
from steersman_service.engine.search import Searcher

CORE_PART_BYTES, GPU_PART_BYTES = 2 << 20, 32 << 20
"""Of the largest array of a part, on each core of a CPU: a larger one leaves its cache, and takes longer."""
# Concepts are solved in double precision.
SOLVED_BYTES, FLOAT_BYTES = 8, 4
CANDIDATES = ("candidates_BK", "candidate_scores_BK")
RESOLVED = ("concept_features_BE", "concept_gains_BE", "concept_edits_BE")


class _Part(NamedTuple):
    """Concepts of one request that are solved in one call."""

    row: int
    begin: int
    end: int


class Steerer:
    """Runs each graph for those requests alone that ask for it, in parts of bounded memory, however much a batch asks for."""

    def __init__(
        self, graphs: Graphs, searcher: Searcher, *, part_bytes: int | None = None, observer: Observer = SILENT
    ) -> None:
        """`part_bytes` bounds the largest array of a part; a few live together. None: as suits one core, or a GPU."""
        self._graphs = graphs
        self._searcher = searcher
        self._observer = observer
        shape, golden = graphs.bundle.manifest.shape, graphs.bundle.golden["concept"]
        self._candidates = golden["candidates_BK"].shape[1] if "candidates_BK" in golden else 1
        features = golden["concept_features_BE"].shape[1] / golden["concepts_BC"].shape[1]
        self.concept_features = max(1, round(features))
        """Features that a concept comes down to: 1 from format 1.4 on, up to 128 before."""
        if part_bytes is None:
            part_bytes = CORE_PART_BYTES if graphs.backend.device == "cpu" else GPU_PART_BYTES
        # A concept takes a number for each candidate and feature, and its request the candidates' vectors: as much as so many concepts.
        self._row_concepts = math.ceil(FLOAT_BYTES * shape.hidden / (SOLVED_BYTES * features))
        solved_together = int(part_bytes / (SOLVED_BYTES * self._candidates * features))
        self._most_concepts = max(1, solved_together - self._row_concepts)
        # An edit takes its feature's direction.
        self._most_edits = part_bytes // (FLOAT_BYTES * shape.hidden)

    def resolve(self, batch: Sequence[EngineRequest], pool: Pool) -> list[list[Edits]]:
        """The edits that each concept of each request comes down to. They depend on no other control."""
        edits: list[list[Edits]] = [[] for _ in batch]
        with_concepts = [row for row, request in enumerate(batch) if len(request.concepts_C)]
        if not with_concepts:
            return edits
        # Variants have the same candidates: they are solved as one request.
        alike = [
            [with_concepts[place] for place in places]
            for places in variants_together([batch[row] for row in with_concepts])
        ]
        rows = [own[0] for own in alike]
        asking = [_joined([batch[row] for row in own]) for own in alike]
        pool = self._graphs.select(pool, ("concept", "upper", "search"), rows, len(batch))
        if "candidates_BK" in self._graphs.inputs["concept"]:
            plain = [request._replace(k=self._candidates, tilts_N=None) for request in asking]
            pool |= dict(zip(CANDIDATES, self._searcher.search(plain, pool), strict=True))
        most, row_concepts = self._most_concepts, self._row_concepts
        parts = [
            _Part(place, begin, min(begin + most, len(request.concepts_C)))
            for place, request in enumerate(asking)
            for begin in range(0, len(request.concepts_C), most)
        ]
        widths = np.array([row_concepts + part.end - part.begin for part in parts])
        solved: dict[_Part, list[Edits]] = {}
        with timed(self._observer, "concept"):
            for group in bounded_groups(widths, most + row_concepts):
                own = [parts[number] for number in group]
                solved |= zip(own, self._solve(own, asking, pool), strict=True)
        for place, own in enumerate(alike):
            found = (edit for part in parts if part.row == place for edit in solved[part])
            for row in own:
                edits[row] = [next(found) for _ in batch[row].concepts_C]
        return edits

    def _solve(self, parts: Sequence[_Part], asking: Sequence[EngineRequest], pool: Pool) -> list[list[Edits]]:
        """The edits of each concept of each part."""
        feeds = self._graphs.select(pool, ["concept"], [part.row for part in parts], len(asking))
        concepts = [asking[row].concepts_C[begin:end] for row, begin, end in parts]
        strengths = [asking[row].concept_strengths_C[begin:end] for row, begin, end in parts]
        outputs = self._graphs.run("concept", feeds | self._graphs.put(padded_concepts(concepts, strengths)))
        width = max(map(len, concepts))
        fetched = self._graphs.backend.fetch([outputs[name] for name in RESOLVED])
        by_concept = [array.reshape(len(parts), width, -1) for array in fetched]
        return [
            [Edits(*(array[row, place] for array in by_concept)).without_padding() for place in range(len(own))]
            for row, own in enumerate(concepts)
        ]

    def edit(self, batch: Sequence[EngineRequest], resolved: Sequence[Sequence[Edits]], pool: Pool) -> Tensor:
        """Hidden states after all edits of each request, its own and those of its concepts. (B, D)"""
        edits = [
            Edits.joined([request.edits, *others]) if others else request.edits
            for request, others in zip(batch, resolved, strict=True)
        ]
        groups = bounded_groups(np.array([len(own.features_E) for own in edits]), self._most_edits)
        if not groups:
            return pool["h_BD"]
        # `add` computes no activations.
        adds = ADD in self._graphs.inputs and all((own.gains_E == 1).all() for own in edits)
        graph, output = (ADD, "added_BD") if adds else ("edit", "edited_BD")
        parts, places, count = [pool["h_BD"]], np.arange(len(batch)), len(batch)
        with timed(self._observer, "edit"):
            for rows in groups:
                feeds = self._graphs.select(pool, [graph], rows.tolist(), len(batch))
                feeds |= self._graphs.put(padded_edits([edits[row] for row in rows]))
                parts.append(self._graphs.run(graph, feeds)[output])
                places[rows] = count + np.arange(len(rows))
                count += len(rows)
        if groups[0].tolist() == list(range(len(batch))):
            return parts[-1]
        return self._graphs.backend.take(parts, places)


def _joined(requests: Sequence[EngineRequest]) -> EngineRequest:
    """One that has the concepts of all, one after the other."""
    if len(requests) == 1:
        return requests[0]
    return requests[0]._replace(
        concepts_C=np.concatenate([request.concepts_C for request in requests]),
        concept_strengths_C=np.concatenate([request.concept_strengths_C for request in requests]),
    )
