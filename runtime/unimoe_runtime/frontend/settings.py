"""The records of frontend.json, with checks of types, ranges and the consistency of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.duration_predictor import DurationSettings
from unimoe_runtime.frontend.letter_to_sound import LetterToSoundSettings
from unimoe_runtime.frontend.music import MusicRange
from unimoe_runtime.records import Between, JsonRecord, Length

PAD: Final = "pad"
SEPARATOR: Final = "separator"
Token = Annotated[str, Length(1, 256)]
Text = Annotated[str, Length(0, 1 << 16)]


@dataclass(frozen=True, kw_only=True)
class TimelineSettings(JsonRecord):
    """frontend.json of the kind "timeline" (`timeline.TimelineFrontEnd`).

    Version 2 has `letter_to_sound` and `durations`, version 1 neither.
    """

    kind: Literal["timeline"] = "timeline"
    format_version: Literal[1, 2]
    frame_rate_hz: Annotated[float, Between(1, 10_000)]
    origin: Annotated[int, Between(0, 1 << 20)]
    max_characters: Annotated[int, Between(1, 1 << 20)]
    max_frames: Annotated[int, Between(1, 1 << 20)]
    default_voice: Annotated[str, Length(0, 256)]
    tokens: Annotated[tuple[Token, ...], Length(2, 1 << 20)]
    abbreviations: Annotated[Mapping[str, Text], Length(0, 1 << 16)]
    music: MusicRange
    language: Annotated[str, Length(1, 32)] = "en"
    letter_to_sound: LetterToSoundSettings | None = None
    durations: DurationSettings | None = None

    def check_together(self) -> None:
        if {self.letter_to_sound is not None, self.durations is not None} != {self.format_version == 2}:
            raise ConfigError("letter_to_sound and durations belong to format version 2")
        known = set(self.tokens)
        if len(known) != len(self.tokens):
            raise ConfigError("tokens: one of them is there twice")
        instruments = [token for token in self.tokens if token.startswith("instrument:")]
        needed = [PAD, SEPARATOR, "phoneme:pau", *[f"voice:{self.default_voice}"] * bool(self.default_voice)]
        if instruments:
            needed.append(f"instrument:{self.music.default_instrument}")
            needed += [f"note:{pitch}" for pitch in range(self.music.lowest_pitch, self.music.highest_pitch + 1)]
        missing = [token for token in needed if token not in known]
        if missing:
            raise ConfigError(f"tokens: {missing[0]!r} is missing")


@dataclass(frozen=True, kw_only=True)
class VoiceSettings(JsonRecord):
    """A cloned voice: its recording in voices/, and the recording's words."""

    file: Annotated[str, Length(1, 255)]
    text: Text


@dataclass(frozen=True, kw_only=True)
class PublishedSettings(JsonRecord):
    """frontend.json of the kind "published" (`published.PublishedFrontEnd`)."""

    kind: Literal["published"] = "published"
    format_version: Literal[1]
    templates: Annotated[Mapping[str, Text], Length(1, 64)]
    unconditional: Annotated[Mapping[str, Text], Length(1, 64)]
    placeholder: Token
    video_token: Token
    pad_id: Annotated[int, Between(0, (1 << 31) - 1)]
    max_prompt_tokens: Annotated[int, Between(1, 1 << 24)]
    max_voice_s: Annotated[float, Between(0, 3600)]
    voices: Annotated[Mapping[str, VoiceSettings], Length(0, 1 << 16)]
