import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from steersman.v1 import control_pb2 as _control_pb2
from steersman.v1 import recommendation_service_pb2 as _recommendation_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScenarioAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCENARIO_ACTION_UNSPECIFIED: _ClassVar[ScenarioAction]
    SCENARIO_ACTION_PUT: _ClassVar[ScenarioAction]
    SCENARIO_ACTION_DELETE: _ClassVar[ScenarioAction]

class ReplayStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLAY_STATUS_UNSPECIFIED: _ClassVar[ReplayStatus]
    REPLAY_STATUS_HELD: _ClassVar[ReplayStatus]
    REPLAY_STATUS_MOVED: _ClassVar[ReplayStatus]
    REPLAY_STATUS_BROKEN: _ClassVar[ReplayStatus]
    REPLAY_STATUS_NOTHING_TO_COMPARE: _ClassVar[ReplayStatus]
SCENARIO_ACTION_UNSPECIFIED: ScenarioAction
SCENARIO_ACTION_PUT: ScenarioAction
SCENARIO_ACTION_DELETE: ScenarioAction
REPLAY_STATUS_UNSPECIFIED: ReplayStatus
REPLAY_STATUS_HELD: ReplayStatus
REPLAY_STATUS_MOVED: ReplayStatus
REPLAY_STATUS_BROKEN: ReplayStatus
REPLAY_STATUS_NOTHING_TO_COMPARE: ReplayStatus

class Scenario(_message.Message):
    __slots__ = ("name", "version", "description", "controls", "filters", "composition", "policy", "updated", "updated_by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    COMPOSITION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    description: str
    controls: _containers.RepeatedCompositeFieldContainer[_control_pb2.Control]
    filters: _recommendation_service_pb2.Filters
    composition: _recommendation_service_pb2.Composition
    policy: Policy
    updated: _timestamp_pb2.Timestamp
    updated_by: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., description: _Optional[str] = ..., controls: _Optional[_Iterable[_Union[_control_pb2.Control, _Mapping]]] = ..., filters: _Optional[_Union[_recommendation_service_pb2.Filters, _Mapping]] = ..., composition: _Optional[_Union[_recommendation_service_pb2.Composition, _Mapping]] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., updated: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_by: _Optional[str] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[PolicyRule]
    def __init__(self, rules: _Optional[_Iterable[_Union[PolicyRule, _Mapping]]] = ...) -> None: ...

class PolicyRule(_message.Message):
    __slots__ = ("concept", "attribute", "any_feature", "any_items_or_words", "most_strength")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    ANY_FEATURE_FIELD_NUMBER: _ClassVar[int]
    ANY_ITEMS_OR_WORDS_FIELD_NUMBER: _ClassVar[int]
    MOST_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    concept: str
    attribute: _control_pb2.AttributeRef
    any_feature: bool
    any_items_or_words: bool
    most_strength: float
    def __init__(self, concept: _Optional[str] = ..., attribute: _Optional[_Union[_control_pb2.AttributeRef, _Mapping]] = ..., any_feature: _Optional[bool] = ..., any_items_or_words: _Optional[bool] = ..., most_strength: _Optional[float] = ...) -> None: ...

class ListScenariosRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListScenariosResponse(_message.Message):
    __slots__ = ("scenarios", "next_page_token", "total_size")
    SCENARIOS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    scenarios: _containers.RepeatedCompositeFieldContainer[Scenario]
    next_page_token: str
    total_size: int
    def __init__(self, scenarios: _Optional[_Iterable[_Union[Scenario, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class GetScenarioRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetScenarioResponse(_message.Message):
    __slots__ = ("scenario",)
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    scenario: Scenario
    def __init__(self, scenario: _Optional[_Union[Scenario, _Mapping]] = ...) -> None: ...

class PutScenarioRequest(_message.Message):
    __slots__ = ("scenario", "author")
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    scenario: Scenario
    author: str
    def __init__(self, scenario: _Optional[_Union[Scenario, _Mapping]] = ..., author: _Optional[str] = ...) -> None: ...

class PutScenarioResponse(_message.Message):
    __slots__ = ("scenario", "measured_histories")
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    MEASURED_HISTORIES_FIELD_NUMBER: _ClassVar[int]
    scenario: Scenario
    measured_histories: int
    def __init__(self, scenario: _Optional[_Union[Scenario, _Mapping]] = ..., measured_histories: _Optional[int] = ...) -> None: ...

class DeleteScenarioRequest(_message.Message):
    __slots__ = ("name", "version", "author")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    author: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., author: _Optional[str] = ...) -> None: ...

class DeleteScenarioResponse(_message.Message):
    __slots__ = ("existed",)
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    existed: bool
    def __init__(self, existed: _Optional[bool] = ...) -> None: ...

class ScenarioChange(_message.Message):
    __slots__ = ("name", "action", "version", "time", "author", "scenario")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    name: str
    action: ScenarioAction
    version: int
    time: _timestamp_pb2.Timestamp
    author: str
    scenario: Scenario
    def __init__(self, name: _Optional[str] = ..., action: _Optional[_Union[ScenarioAction, str]] = ..., version: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., author: _Optional[str] = ..., scenario: _Optional[_Union[Scenario, _Mapping]] = ...) -> None: ...

class ListScenarioChangesRequest(_message.Message):
    __slots__ = ("name", "page_size", "page_token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    page_size: int
    page_token: str
    def __init__(self, name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListScenarioChangesResponse(_message.Message):
    __slots__ = ("changes", "next_page_token")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[ScenarioChange]
    next_page_token: str
    def __init__(self, changes: _Optional[_Iterable[_Union[ScenarioChange, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReplayScenariosRequest(_message.Message):
    __slots__ = ("names", "page_size", "page_token")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    page_size: int
    page_token: str
    def __init__(self, names: _Optional[_Iterable[str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ReplayedEffect(_message.Message):
    __slots__ = ("name", "before", "least", "most", "now", "outside")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_FIELD_NUMBER: _ClassVar[int]
    name: str
    before: float
    least: float
    most: float
    now: float
    outside: bool
    def __init__(self, name: _Optional[str] = ..., before: _Optional[float] = ..., least: _Optional[float] = ..., most: _Optional[float] = ..., now: _Optional[float] = ..., outside: _Optional[bool] = ...) -> None: ...

class ScenarioReplay(_message.Message):
    __slots__ = ("name", "version", "status", "bundle_version_before", "histories", "effects", "problem")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_BEFORE_FIELD_NUMBER: _ClassVar[int]
    HISTORIES_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    status: ReplayStatus
    bundle_version_before: str
    histories: int
    effects: _containers.RepeatedCompositeFieldContainer[ReplayedEffect]
    problem: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., status: _Optional[_Union[ReplayStatus, str]] = ..., bundle_version_before: _Optional[str] = ..., histories: _Optional[int] = ..., effects: _Optional[_Iterable[_Union[ReplayedEffect, _Mapping]]] = ..., problem: _Optional[str] = ...) -> None: ...

class ReplayScenariosResponse(_message.Message):
    __slots__ = ("replays", "bundle_version", "next_page_token")
    REPLAYS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    replays: _containers.RepeatedCompositeFieldContainer[ScenarioReplay]
    bundle_version: str
    next_page_token: str
    def __init__(self, replays: _Optional[_Iterable[_Union[ScenarioReplay, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., next_page_token: _Optional[str] = ...) -> None: ...
