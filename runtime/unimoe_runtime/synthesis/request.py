"""The request to a synthesizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from unimoe_runtime.config import MAX_STEPS, SamplingConfig
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.options import FASTEST, SLOWEST
from unimoe_runtime.records import Between, JsonRecord
from unimoe_runtime.synthesis.chunks import ChunkSchedule
from unimoe_runtime.vision.video import Video


@dataclass(frozen=True, kw_only=True)
class Limits(JsonRecord):
    """Limits on the audio's length. None uses the bundle's.

    `min_steps` and `max_steps` count decode steps, the delay included. `max_s` is seconds of audio.
    """

    min_steps: Annotated[int, Between(0, MAX_STEPS)] | None = None
    max_steps: Annotated[int, Between(0, MAX_STEPS)] | None = None
    max_s: Annotated[float, Between(0, 1e6)] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthesisRequest:
    """One text to speak or one piece of music to play.

    `task`: "speech" or "music".
    `voice`: one of the front end's voices (for music, an instrument), or an audio file to clone. Empty takes the
    front end's first voice. `voice_text`: the words of that audio file.
    `video`: frames to make music for (`Synthesizer.read_video`).
    `seed`: the same bundle, request and seed give the same codes, and the same audio with any schedule.
    `sampling` replaces the bundle's sampling for this task. Its step limits still follow the expected length, unless
    `limits` sets others.
    `schedule`: frames of each chunk of a stream.
    `timeout_s`: seconds from the request, including the reader's own time. Then the audio ends with the frames that
    are complete.
    `speed`: 1 is the voice's own speed, 2 twice as fast; from 0.25 to 4.
    `lexicon`: pronunciations of words, used before the bundle's own lexicon.

    Raises PromptError, one line, for a field of the wrong type or out of range.
    """

    text: str
    task: str = "speech"
    voice: str = ""
    voice_text: str = ""
    video: Video | None = None
    seed: int = 0
    sampling: SamplingConfig | None = None
    limits: Limits | None = None
    schedule: ChunkSchedule | None = None
    timeout_s: float | None = None
    speed: float = 1.0
    lexicon: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("text", "task", "voice", "voice_text"):
            self._require_type(name, str, "a string")
            if not getattr(self, name).isascii() and not _is_unicode(getattr(self, name)):
                raise PromptError(f"{name} holds bytes that are not text: give it in UTF-8")
        self._require_type("seed", int, "a whole number")
        self._require_type("speed", (int, float), "a number")
        for name, kind in _OPTIONAL.items():
            if getattr(self, name) is not None:
                self._require_type(name, kind, f"None or {_named(kind)}")
        if self.seed < 0:
            raise PromptError(f"seed is {self.seed}; it must be at least 0")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise PromptError(f"timeout_s is {self.timeout_s}; it must be above 0")
        if not SLOWEST <= self.speed <= FASTEST:
            raise PromptError(f"speed is {self.speed}; it must be from {SLOWEST} to {FASTEST:g}")

    def _require_type(self, name: str, kind: type | tuple[type, ...], expected: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise PromptError(f"{name} is {value!r}, of type {type(value).__name__}; it must be {expected}")


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates; a command line gives these for bytes of another encoding."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "video": Video,
    "sampling": SamplingConfig,
    "limits": Limits,
    "schedule": ChunkSchedule,
    "timeout_s": (int, float),
    "lexicon": Mapping,
}


def _named(kind: type | tuple[type, ...]) -> str:
    return "a number" if isinstance(kind, tuple) else f"a {kind.__name__}"
