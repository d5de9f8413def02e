from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Manifest(_message.Message):
    __slots__ = ("format_major", "format_minor", "version", "created", "hook", "window", "shape", "autoencoder", "graphs", "tolerances", "provenance", "figures", "files", "index")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: BundleFile
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[BundleFile, _Mapping]] = ...) -> None: ...
    FORMAT_MAJOR_FIELD_NUMBER: _ClassVar[int]
    FORMAT_MINOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    HOOK_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    AUTOENCODER_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    TOLERANCES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    format_major: int
    format_minor: int
    version: str
    created: str
    hook: Hook
    window: Window
    shape: BundleShape
    autoencoder: Autoencoder
    graphs: _containers.RepeatedCompositeFieldContainer[Graph]
    tolerances: _containers.RepeatedCompositeFieldContainer[Tolerance]
    provenance: Provenance
    figures: _containers.ScalarMap[str, float]
    files: _containers.MessageMap[str, BundleFile]
    index: Index
    def __init__(self, format_major: _Optional[int] = ..., format_minor: _Optional[int] = ..., version: _Optional[str] = ..., created: _Optional[str] = ..., hook: _Optional[_Union[Hook, _Mapping]] = ..., window: _Optional[_Union[Window, _Mapping]] = ..., shape: _Optional[_Union[BundleShape, _Mapping]] = ..., autoencoder: _Optional[_Union[Autoencoder, _Mapping]] = ..., graphs: _Optional[_Iterable[_Union[Graph, _Mapping]]] = ..., tolerances: _Optional[_Iterable[_Union[Tolerance, _Mapping]]] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., figures: _Optional[_Mapping[str, float]] = ..., files: _Optional[_Mapping[str, BundleFile]] = ..., index: _Optional[_Union[Index, _Mapping]] = ...) -> None: ...

class Hook(_message.Message):
    __slots__ = ("block", "blocks", "positions")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    block: int
    blocks: int
    positions: str
    def __init__(self, block: _Optional[int] = ..., blocks: _Optional[int] = ..., positions: _Optional[str] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("length", "stride")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    length: int
    stride: int
    def __init__(self, length: _Optional[int] = ..., stride: _Optional[int] = ...) -> None: ...

class BundleShape(_message.Message):
    __slots__ = ("items", "hidden", "features", "concepts")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    items: int
    hidden: int
    features: int
    concepts: int
    def __init__(self, items: _Optional[int] = ..., hidden: _Optional[int] = ..., features: _Optional[int] = ..., concepts: _Optional[int] = ...) -> None: ...

class Autoencoder(_message.Message):
    __slots__ = ("kind", "active")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    active: int
    def __init__(self, kind: _Optional[str] = ..., active: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "dtype")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("name", "inputs", "outputs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    def __init__(self, name: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ...) -> None: ...

class Tolerance(_message.Message):
    __slots__ = ("backend", "dtype", "absolute", "relative")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_FIELD_NUMBER: _ClassVar[int]
    backend: str
    dtype: str
    absolute: float
    relative: float
    def __init__(self, backend: _Optional[str] = ..., dtype: _Optional[str] = ..., absolute: _Optional[float] = ..., relative: _Optional[float] = ...) -> None: ...

class Index(_message.Message):
    __slots__ = ("lists", "efforts")
    LISTS_FIELD_NUMBER: _ClassVar[int]
    EFFORTS_FIELD_NUMBER: _ClassVar[int]
    lists: int
    efforts: _containers.RepeatedCompositeFieldContainer[Effort]
    def __init__(self, lists: _Optional[int] = ..., efforts: _Optional[_Iterable[_Union[Effort, _Mapping]]] = ...) -> None: ...

class Effort(_message.Message):
    __slots__ = ("depth", "probes", "candidates_per_item", "recall")
    class RecallEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_PER_ITEM_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    depth: int
    probes: int
    candidates_per_item: int
    recall: _containers.ScalarMap[str, float]
    def __init__(self, depth: _Optional[int] = ..., probes: _Optional[int] = ..., candidates_per_item: _Optional[int] = ..., recall: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("data", "data_sha256", "users", "items", "events", "code_version", "seed", "settings_json")
    DATA_FIELD_NUMBER: _ClassVar[int]
    DATA_SHA256_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_JSON_FIELD_NUMBER: _ClassVar[int]
    data: str
    data_sha256: str
    users: int
    items: int
    events: int
    code_version: str
    seed: int
    settings_json: str
    def __init__(self, data: _Optional[str] = ..., data_sha256: _Optional[str] = ..., users: _Optional[int] = ..., items: _Optional[int] = ..., events: _Optional[int] = ..., code_version: _Optional[str] = ..., seed: _Optional[int] = ..., settings_json: _Optional[str] = ...) -> None: ...

class BundleFile(_message.Message):
    __slots__ = ("sha256", "size")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size: int
    def __init__(self, sha256: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...
