"""Interprets a request: history, controls, filters and k become what the engine takes."""

from typing import NamedTuple

from steersman.v1.bundle_pb2 import Window
from steersman.v1.recommendation_service_pb2 import Filters, HistoryUse
from steersman_service.bundle.items import NOWHERE, Items, Rows, known
from steersman_service.bundle.window import in_window
from steersman_service.engine.request import EngineRequest
from steersman_service.steering.eligibility import Eligibility, eligibility
from steersman_service.steering.steering import Steering


class ItemHistory(NamedTuple):
    """A history, as rows of the bundle's items."""

    places: Rows = NOWHERE
    """Rows of the latest events' items, oldest first, or UNKNOWN."""
    total_events: int = 0
    """With those that came before them."""
    refused: Rows = NOWHERE
    """Rows of items that are never returned, whatever filters say: disliked and hidden ones."""


class Interpretation(NamedTuple):
    """The engine's request, with what else the answer says of the caller's."""

    request: EngineRequest
    eligibility: Eligibility
    history_use: HistoryUse


def interpret(
    items: Items,
    window: Window,
    history: ItemHistory,
    steering: Steering,
    filters: Filters,
    k: int,
    *,
    grows: bool,
    beside: Filters | None = None,
) -> Interpretation:
    """`filters`, those `beside` them (a scenario's) and `k` are checked. `grows`: the history will be asked for again, with more events."""
    places, total_events, refused = history
    shown = in_window(places, total_events, window.length, window.stride)
    ids_T = known(shown)
    eligible = eligibility(filters, known(places), items, refused=refused, beside=beside)
    request = EngineRequest(
        ids_T=ids_T,
        edits=steering.edits,
        concepts_C=steering.concepts_C,
        concept_strengths_C=steering.concept_strengths_C,
        eligible_N=eligible.mask_N,
        k=k,
        tilts_N=steering.tilts_N,
        excluded_X=eligible.excluded_X,
        grows=grows,
    )
    use = HistoryUse(
        total_events=total_events,
        used_events=len(ids_T),
        unknown_events=len(shown) - len(ids_T),
        empty=not len(ids_T),
    )
    return Interpretation(request, eligible, use)
