from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Operation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATION_UNSPECIFIED: _ClassVar[Operation]
    OPERATION_ADD: _ClassVar[Operation]
    OPERATION_SET: _ClassVar[Operation]
    OPERATION_SCALE: _ClassVar[Operation]
    OPERATION_ABLATE: _ClassVar[Operation]

class ControlSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTROL_SOURCE_UNSPECIFIED: _ClassVar[ControlSource]
    CONTROL_SOURCE_REQUEST: _ClassVar[ControlSource]
    CONTROL_SOURCE_SESSION: _ClassVar[ControlSource]
    CONTROL_SOURCE_SCENARIO: _ClassVar[ControlSource]
    CONTROL_SOURCE_DISLIKED: _ClassVar[ControlSource]
OPERATION_UNSPECIFIED: Operation
OPERATION_ADD: Operation
OPERATION_SET: Operation
OPERATION_SCALE: Operation
OPERATION_ABLATE: Operation
CONTROL_SOURCE_UNSPECIFIED: ControlSource
CONTROL_SOURCE_REQUEST: ControlSource
CONTROL_SOURCE_SESSION: ControlSource
CONTROL_SOURCE_SCENARIO: ControlSource
CONTROL_SOURCE_DISLIKED: ControlSource

class FeatureRef(_message.Message):
    __slots__ = ("id", "bundle_version")
    ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    bundle_version: str
    def __init__(self, id: _Optional[int] = ..., bundle_version: _Optional[str] = ...) -> None: ...

class AttributeRef(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ItemSet(_message.Message):
    __slots__ = ("item_ids",)
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Goal(_message.Message):
    __slots__ = ("share", "least_overlap", "most_divergence")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    LEAST_OVERLAP_FIELD_NUMBER: _ClassVar[int]
    MOST_DIVERGENCE_FIELD_NUMBER: _ClassVar[int]
    share: ShareGoal
    least_overlap: float
    most_divergence: float
    def __init__(self, share: _Optional[_Union[ShareGoal, _Mapping]] = ..., least_overlap: _Optional[float] = ..., most_divergence: _Optional[float] = ...) -> None: ...

class ShareGoal(_message.Message):
    __slots__ = ("attribute", "concept", "items", "at_least", "at_most")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    attribute: AttributeRef
    concept: str
    items: ItemSet
    at_least: float
    at_most: float
    def __init__(self, attribute: _Optional[_Union[AttributeRef, _Mapping]] = ..., concept: _Optional[str] = ..., items: _Optional[_Union[ItemSet, _Mapping]] = ..., at_least: _Optional[float] = ..., at_most: _Optional[float] = ...) -> None: ...

class Control(_message.Message):
    __slots__ = ("feature", "concept", "attribute", "items", "words", "operation", "strength", "goal")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    feature: FeatureRef
    concept: str
    attribute: AttributeRef
    items: ItemSet
    words: str
    operation: Operation
    strength: float
    goal: Goal
    def __init__(self, feature: _Optional[_Union[FeatureRef, _Mapping]] = ..., concept: _Optional[str] = ..., attribute: _Optional[_Union[AttributeRef, _Mapping]] = ..., items: _Optional[_Union[ItemSet, _Mapping]] = ..., words: _Optional[str] = ..., operation: _Optional[_Union[Operation, str]] = ..., strength: _Optional[float] = ..., goal: _Optional[_Union[Goal, _Mapping]] = ...) -> None: ...

class FeatureEdit(_message.Message):
    __slots__ = ("feature_id", "label", "gain", "strength", "beyond_natural", "control_strength")
    FEATURE_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    BEYOND_NATURAL_FIELD_NUMBER: _ClassVar[int]
    CONTROL_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    feature_id: int
    label: str
    gain: float
    strength: float
    beyond_natural: bool
    control_strength: float
    def __init__(self, feature_id: _Optional[int] = ..., label: _Optional[str] = ..., gain: _Optional[float] = ..., strength: _Optional[float] = ..., beyond_natural: _Optional[bool] = ..., control_strength: _Optional[float] = ...) -> None: ...

class AppliedControl(_message.Message):
    __slots__ = ("control", "source", "edits", "carried_confidence", "warnings", "display_name")
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    CARRIED_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    control: Control
    source: ControlSource
    edits: _containers.RepeatedCompositeFieldContainer[FeatureEdit]
    carried_confidence: float
    warnings: _containers.RepeatedScalarFieldContainer[str]
    display_name: str
    def __init__(self, control: _Optional[_Union[Control, _Mapping]] = ..., source: _Optional[_Union[ControlSource, str]] = ..., edits: _Optional[_Iterable[_Union[FeatureEdit, _Mapping]]] = ..., carried_confidence: _Optional[float] = ..., warnings: _Optional[_Iterable[str]] = ..., display_name: _Optional[str] = ...) -> None: ...
