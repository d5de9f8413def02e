"""Composes a list: has the engine score the candidates that a composition needs, and arranges them.

Dimensions: N items, M candidates.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from steersman_service.api.release import Release
from steersman_service.bundle.bundle import Array
from steersman_service.engine.index.exact import Terms
from steersman_service.engine.request import NO_ROWS, NO_STRENGTHS, Edits, EngineRequest, EngineResult
from steersman_service.steering.composition import CANDIDATES_PER_ITEM, MOST_CANDIDATES, Plan, arranged

Submit = Callable[[EngineRequest], Awaitable[EngineResult]]


class ComposedResult(NamedTuple):
    result: EngineResult
    """Of the first request, with the composed list."""
    notes: Sequence[str]
    """What the list could not hold, for people."""


async def composed(
    planned: Plan, request: EngineRequest, result: EngineResult, submit: Submit, release: Release
) -> ComposedResult:
    """`result` is the engine's for `request`, whose k is the number of candidates.

    Items that the composition names and that are not among them are scored by further requests, under the same edits. Where caps keep
    the list from what it should hold, MOST_CANDIDATES are looked at, once.
    """
    further = list(_further(planned, request, result, len(release.items)))
    others = await asyncio.gather(*(submit(each) for each in further))
    items, items_ND = release.items, release.bundle.items_ND
    rows_M, scores_M = _merged([result, *others])
    arrangement = arranged(planned, rows_M, scores_M, items, items_ND)
    more = len(result.rows_K) == request.k < MOST_CANDIDATES
    if planned.caps and more and (arrangement.exceeded or arrangement.short):
        rows_M, scores_M = _merged([await submit(request._replace(k=MOST_CANDIDATES)), *others])
        arrangement = arranged(planned, rows_M, scores_M, items, items_ND)
    places_K = arrangement.places_K
    listed = result._replace(rows_K=rows_M[places_K], scores_K=scores_M[places_K])
    return ComposedResult(listed, [*planned.notes, *arrangement.exceeded, *arrangement.short])


def _further(planned: Plan, request: EngineRequest, result: EngineResult, size: int) -> Iterator[EngineRequest]:
    """Requests for pinned items, and for items of least shares, that are not among the candidates."""
    found = set(result.rows_K.tolist())
    if missing := [row for row in planned.pinned if row not in found]:
        only_N = np.zeros(size, np.bool_)
        only_N[missing] = True
        yield _among(only_N, len(missing), request, result)
    if len(result.rows_K) < request.k:
        return  # there are no others
    for _, wanted, member_N in planned.least:
        if (lacking := wanted - int(member_N[result.rows_K].sum())) > 0:
            eligible_N = Terms(request.eligible_N, request.excluded_X).mask(size)
            only_N = member_N.copy() if eligible_N is None else member_N & eligible_N
            only_N[result.rows_K] = False
            if only_N.any():
                yield _among(only_N, lacking * (CANDIDATES_PER_ITEM if planned.caps else 1), request, result)


def _among(only_N: Array, k: int, request: EngineRequest, result: EngineResult) -> EngineRequest:
    """`request` for the best of `only_N`, under the edits that its concepts came down to: solved anew, they would be others."""
    edits = Edits.joined([request.edits, *result.concept_edits])
    return request._replace(
        edits=edits.without_padding(),
        concepts_C=NO_ROWS,
        concept_strengths_C=NO_STRENGTHS,
        eligible_N=only_N,
        excluded_X=NO_ROWS,
        k=k,
    )


def _merged(results: Sequence[EngineResult]) -> tuple[Array, Array]:
    """Rows, each once, and their scores: best first, equal ones by row."""
    rows, first = np.unique(np.concatenate([result.rows_K for result in results]), return_index=True)
    scores = np.concatenate([result.scores_K for result in results])[first]
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]
