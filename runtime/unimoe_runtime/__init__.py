"""UniMoE-Audio at run time: bundles, backends, generation, audio. Never imports torch.

The names below are the public interface: documented and stable. Everything else may change.
They load at first use (PEP 562), so that importing the package is fast.

    from unimoe_runtime import SynthesisRequest, Synthesizer

    with Synthesizer.open("build/demo/bundle") as synthesizer:
        result = synthesizer.synthesize(SynthesisRequest(text="Hello.", seed=1))
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimoe_runtime.audio.files import read_audio, write_audio
    from unimoe_runtime.audio.wav import wav_header
    from unimoe_runtime.bundle.reader import Bundle, open_bundle
    from unimoe_runtime.config import SamplingConfig
    from unimoe_runtime.errors import (
        AudioError,
        BackendError,
        BundleError,
        CalibrationError,
        CheckpointError,
        ClosedError,
        ConfigError,
        EngineError,
        GraphError,
        OutputError,
        PromptError,
        UnimoeError,
        VideoError,
    )
    from unimoe_runtime.synthesis.chunks import Chunk, ChunkSchedule
    from unimoe_runtime.synthesis.outcome import Outcome
    from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
    from unimoe_runtime.synthesis.stream import AudioStream
    from unimoe_runtime.synthesis.synthesizer import Synthesis, Synthesizer
    from unimoe_runtime.vision.video import Video

# ONNX Runtime 1.32 keeps a device id and a queue of events under ~/.cache/Microsoft unless this is set before it is
# imported. Child processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_MODULES = {
    "audio.files": ("read_audio", "write_audio"),
    "audio.wav": ("wav_header",),
    "bundle.reader": ("Bundle", "open_bundle"),
    "config": ("SamplingConfig",),
    "errors": (
        "AudioError", "BackendError", "BundleError", "CalibrationError", "CheckpointError", "ClosedError",
        "ConfigError", "EngineError", "GraphError", "OutputError", "PromptError", "UnimoeError", "VideoError",
    ),
    "synthesis.chunks": ("Chunk", "ChunkSchedule"),
    "synthesis.request": ("Limits", "SynthesisRequest"),
    "synthesis.outcome": ("Outcome",),
    "synthesis.stream": ("AudioStream",),
    "synthesis.synthesizer": ("Synthesis", "Synthesizer"),
    "vision.video": ("Video",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AudioError",
    "AudioStream",
    "BackendError",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "Chunk",
    "ChunkSchedule",
    "ClosedError",
    "ConfigError",
    "EngineError",
    "GraphError",
    "Limits",
    "Outcome",
    "OutputError",
    "PromptError",
    "SamplingConfig",
    "Synthesis",
    "SynthesisRequest",
    "Synthesizer",
    "UnimoeError",
    "Video",
    "VideoError",
    "open_bundle",
    "read_audio",
    "wav_header",
    "write_audio",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
