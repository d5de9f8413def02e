import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from steersman.v1 import control_pb2 as _control_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_KIND_UNSPECIFIED: _ClassVar[FeatureKind]
    FEATURE_KIND_DISCOVERED: _ClassVar[FeatureKind]
    FEATURE_KIND_ANCHORED: _ClassVar[FeatureKind]
FEATURE_KIND_UNSPECIFIED: FeatureKind
FEATURE_KIND_DISCOVERED: FeatureKind
FEATURE_KIND_ANCHORED: FeatureKind

class Association(_message.Message):
    __slots__ = ("attribute", "value", "correlation", "roc_auc", "neuron_correlation", "neuron_roc_auc")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    ROC_AUC_FIELD_NUMBER: _ClassVar[int]
    NEURON_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    NEURON_ROC_AUC_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    value: str
    correlation: float
    roc_auc: float
    neuron_correlation: float
    neuron_roc_auc: float
    def __init__(self, attribute: _Optional[str] = ..., value: _Optional[str] = ..., correlation: _Optional[float] = ..., roc_auc: _Optional[float] = ..., neuron_correlation: _Optional[float] = ..., neuron_roc_auc: _Optional[float] = ...) -> None: ...

class Effect(_message.Message):
    __slots__ = ("share_before", "share_after", "ndcg_kept")
    SHARE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SHARE_AFTER_FIELD_NUMBER: _ClassVar[int]
    NDCG_KEPT_FIELD_NUMBER: _ClassVar[int]
    share_before: float
    share_after: float
    ndcg_kept: float
    def __init__(self, share_before: _Optional[float] = ..., share_after: _Optional[float] = ..., ndcg_kept: _Optional[float] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("id", "label", "label_confidence", "steerable", "density", "scale", "association", "effect", "top_item_ids", "top_item_titles", "kind", "clear", "unit_up", "unit_down", "push_up", "push_down", "curve", "correction")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LABEL_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    STEERABLE_FIELD_NUMBER: _ClassVar[int]
    DENSITY_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATION_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    TOP_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_ITEM_TITLES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    UNIT_UP_FIELD_NUMBER: _ClassVar[int]
    UNIT_DOWN_FIELD_NUMBER: _ClassVar[int]
    PUSH_UP_FIELD_NUMBER: _ClassVar[int]
    PUSH_DOWN_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    id: int
    label: str
    label_confidence: float
    steerable: bool
    density: float
    scale: float
    association: Association
    effect: Effect
    top_item_ids: _containers.RepeatedScalarFieldContainer[str]
    top_item_titles: _containers.RepeatedScalarFieldContainer[str]
    kind: FeatureKind
    clear: bool
    unit_up: float
    unit_down: float
    push_up: float
    push_down: float
    curve: _containers.RepeatedCompositeFieldContainer[EffectPoint]
    correction: LabelCorrection
    def __init__(self, id: _Optional[int] = ..., label: _Optional[str] = ..., label_confidence: _Optional[float] = ..., steerable: _Optional[bool] = ..., density: _Optional[float] = ..., scale: _Optional[float] = ..., association: _Optional[_Union[Association, _Mapping]] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., top_item_ids: _Optional[_Iterable[str]] = ..., top_item_titles: _Optional[_Iterable[str]] = ..., kind: _Optional[_Union[FeatureKind, str]] = ..., clear: _Optional[bool] = ..., unit_up: _Optional[float] = ..., unit_down: _Optional[float] = ..., push_up: _Optional[float] = ..., push_down: _Optional[float] = ..., curve: _Optional[_Iterable[_Union[EffectPoint, _Mapping]]] = ..., correction: _Optional[_Union[LabelCorrection, _Mapping]] = ...) -> None: ...

class EffectPoint(_message.Message):
    __slots__ = ("strength", "share", "ndcg_kept")
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    NDCG_KEPT_FIELD_NUMBER: _ClassVar[int]
    strength: float
    share: float
    ndcg_kept: float
    def __init__(self, strength: _Optional[float] = ..., share: _Optional[float] = ..., ndcg_kept: _Optional[float] = ...) -> None: ...

class LabelCorrection(_message.Message):
    __slots__ = ("automatic_label", "author", "time", "carried_confidence")
    AUTOMATIC_LABEL_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CARRIED_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    automatic_label: str
    author: str
    time: _timestamp_pb2.Timestamp
    carried_confidence: float
    def __init__(self, automatic_label: _Optional[str] = ..., author: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., carried_confidence: _Optional[float] = ...) -> None: ...

class ConceptTerm(_message.Message):
    __slots__ = ("feature_id", "weight")
    FEATURE_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    feature_id: int
    weight: float
    def __init__(self, feature_id: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class Concept(_message.Message):
    __slots__ = ("name", "attribute", "value", "terms", "effect", "strength", "strength_95", "beyond_natural", "unit_up", "unit_down", "push_up", "push_down", "display_name", "curve")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_95_FIELD_NUMBER: _ClassVar[int]
    BEYOND_NATURAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_UP_FIELD_NUMBER: _ClassVar[int]
    UNIT_DOWN_FIELD_NUMBER: _ClassVar[int]
    PUSH_UP_FIELD_NUMBER: _ClassVar[int]
    PUSH_DOWN_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    attribute: str
    value: str
    terms: _containers.RepeatedCompositeFieldContainer[ConceptTerm]
    effect: Effect
    strength: float
    strength_95: float
    beyond_natural: bool
    unit_up: float
    unit_down: float
    push_up: float
    push_down: float
    display_name: str
    curve: _containers.RepeatedCompositeFieldContainer[EffectPoint]
    def __init__(self, name: _Optional[str] = ..., attribute: _Optional[str] = ..., value: _Optional[str] = ..., terms: _Optional[_Iterable[_Union[ConceptTerm, _Mapping]]] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., strength: _Optional[float] = ..., strength_95: _Optional[float] = ..., beyond_natural: _Optional[bool] = ..., unit_up: _Optional[float] = ..., unit_down: _Optional[float] = ..., push_up: _Optional[float] = ..., push_down: _Optional[float] = ..., display_name: _Optional[str] = ..., curve: _Optional[_Iterable[_Union[EffectPoint, _Mapping]]] = ...) -> None: ...

class ListFeaturesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "text", "steerable_only", "include_rare", "kind", "item_ids")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STEERABLE_ONLY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_RARE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    text: str
    steerable_only: bool
    include_rare: bool
    kind: FeatureKind
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., text: _Optional[str] = ..., steerable_only: _Optional[bool] = ..., include_rare: _Optional[bool] = ..., kind: _Optional[_Union[FeatureKind, str]] = ..., item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListFeaturesResponse(_message.Message):
    __slots__ = ("features", "next_page_token", "total_size", "bundle_version")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedCompositeFieldContainer[Feature]
    next_page_token: str
    total_size: int
    bundle_version: str
    def __init__(self, features: _Optional[_Iterable[_Union[Feature, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., bundle_version: _Optional[str] = ...) -> None: ...

class GetFeatureRequest(_message.Message):
    __slots__ = ("id", "bundle_version")
    ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    bundle_version: str
    def __init__(self, id: _Optional[int] = ..., bundle_version: _Optional[str] = ...) -> None: ...

class GetFeatureResponse(_message.Message):
    __slots__ = ("feature", "bundle_version")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    feature: Feature
    bundle_version: str
    def __init__(self, feature: _Optional[_Union[Feature, _Mapping]] = ..., bundle_version: _Optional[str] = ...) -> None: ...

class ListConceptsRequest(_message.Message):
    __slots__ = ("text", "page_size", "page_token")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    text: str
    page_size: int
    page_token: str
    def __init__(self, text: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListConceptsResponse(_message.Message):
    __slots__ = ("concepts", "bundle_version", "next_page_token", "total_size")
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    concepts: _containers.RepeatedCompositeFieldContainer[Concept]
    bundle_version: str
    next_page_token: str
    total_size: int
    def __init__(self, concepts: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class ListNeighboursRequest(_message.Message):
    __slots__ = ("feature", "concept", "size")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    feature: _control_pb2.FeatureRef
    concept: str
    size: int
    def __init__(self, feature: _Optional[_Union[_control_pb2.FeatureRef, _Mapping]] = ..., concept: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("feature_id", "concept", "label", "likeness")
    FEATURE_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LIKENESS_FIELD_NUMBER: _ClassVar[int]
    feature_id: int
    concept: str
    label: str
    likeness: float
    def __init__(self, feature_id: _Optional[int] = ..., concept: _Optional[str] = ..., label: _Optional[str] = ..., likeness: _Optional[float] = ...) -> None: ...

class ListNeighboursResponse(_message.Message):
    __slots__ = ("alike", "opposed", "bundle_version")
    ALIKE_FIELD_NUMBER: _ClassVar[int]
    OPPOSED_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    alike: _containers.RepeatedCompositeFieldContainer[Neighbour]
    opposed: _containers.RepeatedCompositeFieldContainer[Neighbour]
    bundle_version: str
    def __init__(self, alike: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ..., opposed: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ..., bundle_version: _Optional[str] = ...) -> None: ...

class SetLabelRequest(_message.Message):
    __slots__ = ("id", "bundle_version", "label", "author")
    ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    id: int
    bundle_version: str
    label: str
    author: str
    def __init__(self, id: _Optional[int] = ..., bundle_version: _Optional[str] = ..., label: _Optional[str] = ..., author: _Optional[str] = ...) -> None: ...

class SetLabelResponse(_message.Message):
    __slots__ = ("feature",)
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    feature: Feature
    def __init__(self, feature: _Optional[_Union[Feature, _Mapping]] = ...) -> None: ...
