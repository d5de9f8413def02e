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
OPERATION_UNSPECIFIED: Operation
OPERATION_ADD: Operation
OPERATION_SET: Operation
OPERATION_SCALE: Operation
OPERATION_ABLATE: Operation
CONTROL_SOURCE_UNSPECIFIED: ControlSource
CONTROL_SOURCE_REQUEST: ControlSource
CONTROL_SOURCE_SESSION: ControlSource

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

class Control(_message.Message):
    __slots__ = ("feature", "concept", "attribute", "operation", "strength")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    feature: FeatureRef
    concept: str
    attribute: AttributeRef
    operation: Operation
    strength: float
    def __init__(self, feature: _Optional[_Union[FeatureRef, _Mapping]] = ..., concept: _Optional[str] = ..., attribute: _Optional[_Union[AttributeRef, _Mapping]] = ..., operation: _Optional[_Union[Operation, str]] = ..., strength: _Optional[float] = ...) -> None: ...

class FeatureEdit(_message.Message):
    __slots__ = ("feature_id", "label", "gain", "strength", "beyond_natural")
    FEATURE_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    BEYOND_NATURAL_FIELD_NUMBER: _ClassVar[int]
    feature_id: int
    label: str
    gain: float
    strength: float
    beyond_natural: bool
    def __init__(self, feature_id: _Optional[int] = ..., label: _Optional[str] = ..., gain: _Optional[float] = ..., strength: _Optional[float] = ..., beyond_natural: _Optional[bool] = ...) -> None: ...

class AppliedControl(_message.Message):
    __slots__ = ("control", "source", "edits")
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    control: Control
    source: ControlSource
    edits: _containers.RepeatedCompositeFieldContainer[FeatureEdit]
    def __init__(self, control: _Optional[_Union[Control, _Mapping]] = ..., source: _Optional[_Union[ControlSource, str]] = ..., edits: _Optional[_Iterable[_Union[FeatureEdit, _Mapping]]] = ...) -> None: ...
