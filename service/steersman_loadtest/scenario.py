"""The scenario of a load test: everything that client processes need to make calls and to check answers."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from steersman.v1.control_pb2 import OPERATION_ABLATE, OPERATION_ADD, OPERATION_SCALE, Control, FeatureRef, Operation
from steersman.v1.model_service_pb2 import GetModelInfoResponse
from steersman.v1.recommendation_service_pb2 import AttributeFilter, Filters, History
from steersman_client.credentials import Access
from steersman_loadtest.canaries import Canary
from steersman_loadtest.histories import Histories
from steersman_loadtest.mix import Mix
from steersman_loadtest.target import ANYBODY

# Operations on features, with their strengths.
FEATURE_STRENGTHS: Mapping[Operation, float] = {OPERATION_ADD: 0.5, OPERATION_SCALE: 2.0, OPERATION_ABLATE: 0.0}


class AttributeValue(NamedTuple):
    """A value of an attribute."""

    attribute: str
    value: str

    def filters(self) -> Filters:
        return Filters(attributes=[AttributeFilter(attribute=self.attribute, any_of=[self.value])])


@dataclass(frozen=True)
class Scenario:
    """Made once, before the run; see preparation.py."""

    address: str
    info: GetModelInfoResponse
    mix: Mix
    histories: Histories
    concepts: Sequence[str]
    features: Sequence[int]
    """Those that can be steered."""
    values: Mapping[AttributeValue, Set[str]]
    """All items of each value, for some values."""
    known: Set[str]
    """Ids of some items of the bundle."""
    popular: Sequence[str]
    """Known ids, those with the most events first."""
    access: Access = ANYBODY
    plain_canaries: Sequence[Canary] = ()
    steered_canaries: Sequence[Canary] = ()

    def feature_control(self, feature: int, operation: Operation) -> Control:
        reference = FeatureRef(id=feature, bundle_version=self.info.bundle_version)
        return Control(feature=reference, operation=operation, strength=FEATURE_STRENGTHS[operation])

    def history(self, item_ids: Sequence[str]) -> History:
        """The latest items, up to the server's limit, and the number of events before them."""
        sent = item_ids[-self.info.limits.history_items :]
        return History(item_ids=sent, events_before=len(item_ids) - len(sent))

    def eligible(self, excluded: Set[str], perhaps: Set[str], only: Set[str] | None) -> tuple[int, int]:
        """Least and most items that may be eligible: without `excluded`, with or without `perhaps`, and of `only`, if given.

        An excluded item outside `known` may or may not be one of the bundle.
        """
        more = excluded | perhaps
        if only is not None:
            return len(only - more), len(only - excluded)
        items = self.info.shapes.items
        return max(0, items - len(more)), items - len(excluded & self.known)
