"""A stand-in for the module tensorrt, as a builder uses it. It records what Polygraphy's loaders ask for."""

from __future__ import annotations

from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

__version__ = "10.16.1"
CALLS: list[tuple[str, Any]] = []


def _note(name: str, value: Any) -> None:
    CALLS.append((name, value))


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class OtherFlag(IntEnum):
    """The flags of TensorRT 11, whose networks are always strongly typed."""

    PREFER_JIT_PYTHON_PLUGINS = 2


class LayerType(Enum):
    ATTENTION_INPUT = 1


class BuilderFlag(Enum):
    TF32 = 1


class DeviceType(Enum):
    GPU = 0
    DLA = 1


class ProfilingVerbosity(Enum):
    DETAILED = 1


class ILogger:
    def __init__(self) -> None: ...


class IAttentionInputLayer:
    type = LayerType.ATTENTION_INPUT

    def __init__(self) -> None:
        self.attention = _Attention()


class _Attention:
    def __setattr__(self, name: str, value: object) -> None:
        _note(name, value)


class _Cache:
    """A timing cache."""

    def serialize(self) -> memoryview:
        return memoryview(b"timings")

    def combine(self, other: _Cache, ignore_mismatch: bool) -> bool:
        return True


class _Config:
    DLA_core = -1
    default_device_type = DeviceType.GPU
    num_optimization_profiles = 1

    def __init__(self) -> None:
        self.cache = _Cache()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name != "cache":
            _note(name, getattr(value, "name", value))

    def create_timing_cache(self, content: bytes) -> _Cache:
        if not any(name == "create_timing_cache" for name, _ in CALLS):
            _note("create_timing_cache", bytes(content).decode())
        return _Cache()

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> None:
        self.cache = cache

    def get_timing_cache(self) -> _Cache:
        return self.cache

    def clear_flag(self, flag: BuilderFlag) -> None:
        _note("clear_flag", flag.name)

    def set_flag(self, flag: BuilderFlag) -> None:
        _note("set_flag", flag.name)

    def get_flag(self, flag: BuilderFlag) -> bool:
        return False

    def add_optimization_profile(self, profile: Any) -> int:
        return 0


class _Network:
    num_layers = 1
    num_inputs = 1
    num_outputs = 0

    def __init__(self) -> None:
        self.layer = IAttentionInputLayer()

    def get_layer(self, index: int) -> IAttentionInputLayer:
        return self.layer

    def get_input(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(name="x", shape=(-1, 4), is_shape_tensor=False, dtype="float32")

    def __iter__(self) -> Any:
        return iter(())


class _Profile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        _note("set_shape", [name, *shapes])

    def __bool__(self) -> bool:
        return True


class Builder:
    def __init__(self, logger: ILogger) -> None: ...

    def create_network(self, flags: int) -> _Network:
        _note("create_network", flags)
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        return b"plan"


class OnnxParser:
    num_errors = 0

    def __init__(self, network: _Network, logger: ILogger) -> None: ...

    def parse_from_file(self, path: str) -> bool:
        _note("parse_from_file", path)
        return True


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> None: ...
