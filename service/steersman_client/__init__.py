"""A typed client of Steersman: `Client`, `AsyncClient`, and `load` for a bundle in this process."""

from steersman_client.calls import ExplainRequest
from steersman_client.catalogue import Attribute, Concept, Feature, Item, LabelCorrection, Neighbour, Neighbours
from steersman_client.client import AsyncClient, Client
from steersman_client.controls import (
    AttributeTarget,
    ConceptTarget,
    Control,
    FeatureTarget,
    Goal,
    ItemsTarget,
    WordsTarget,
    at_least,
    at_most,
    concept,
    divergence,
    feature,
    items,
    overlap,
    tilt,
    words,
)
from steersman_client.errors import CallError
from steersman_client.explanations import Account, Change, ChangeQuery, Explanation
from steersman_client.frames import frame
from steersman_client.local import LocalClient, load
from steersman_client.model import BundleSummary, ModelInfo, SampleHistory
from steersman_client.recommendations import Comparison, Receipt, Recommendation, RecommendedItem, Sweep
from steersman_client.releases import Release
from steersman_client.requests import Composition, Event, Filters, LeastShare, Request
from steersman_client.scenarios import PolicyRule, Scenario, ScenarioChange, ScenarioReplay
from steersman_client.sessions import AppendResult, Session

__all__ = [
    "Account",
    "AppendResult",
    "AsyncClient",
    "Attribute",
    "AttributeTarget",
    "BundleSummary",
    "CallError",
    "Change",
    "ChangeQuery",
    "Client",
    "Comparison",
    "Composition",
    "Concept",
    "ConceptTarget",
    "Control",
    "Event",
    "ExplainRequest",
    "Explanation",
    "Feature",
    "FeatureTarget",
    "Filters",
    "Goal",
    "Item",
    "ItemsTarget",
    "LabelCorrection",
    "LeastShare",
    "LocalClient",
    "ModelInfo",
    "Neighbour",
    "Neighbours",
    "PolicyRule",
    "Receipt",
    "Recommendation",
    "RecommendedItem",
    "Release",
    "Request",
    "SampleHistory",
    "Scenario",
    "ScenarioChange",
    "ScenarioReplay",
    "Session",
    "Sweep",
    "WordsTarget",
    "at_least",
    "at_most",
    "concept",
    "divergence",
    "feature",
    "frame",
    "items",
    "load",
    "overlap",
    "tilt",
    "words",
]
