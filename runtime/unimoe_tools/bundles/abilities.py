"""A bundle's abilities: tasks, voices, instruments, tunes, languages, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.notation import note_name
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.frontend.tunes import TUNES

_LANGUAGES = ("English",)


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """`voices` and `instruments`: names with a description, empty where there is none; the first is the default.

    `tunes`: melodies that a description may name. `max_voice_s`: the longest recording for cloning a voice, in seconds,
    0 where the model does not clone. `limits`: in words, by the limited quantity.
    """

    tasks: tuple[str, ...]
    languages: tuple[str, ...]
    voices: Mapping[str, str]
    instruments: Mapping[str, str]
    tunes: tuple[str, ...]
    max_voice_s: float
    takes_video: bool
    limits: Mapping[str, str]
    examples: Mapping[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_abilities(bundle: Bundle) -> Abilities:
    """Raises BundleError for a bundle without a front end, which holds only a language model."""
    folder = bundle.checked_frontend()
    if folder is None:
        raise BundleError(f"{bundle.path}: has no front end, so it speaks no text; it holds a language model alone")
    frontend, settings = open_frontend(folder), _settings(folder)
    descriptions = settings.get("descriptions", {})
    voices = sorted(frontend.voices, key=lambda name: name != settings.get("default_voice"))
    instruments = frontend.instruments
    if isinstance(frontend, TimelineFrontEnd):
        instruments = tuple(sorted(instruments, key=lambda name: name != frontend.music.default_instrument))
    return Abilities(
        tasks=tuple(frontend.tasks),
        languages=tuple(settings.get("languages", _LANGUAGES)),
        voices={name: str(descriptions.get(name, "")) for name in voices},
        instruments={name: str(descriptions.get(name, "")) for name in instruments},
        tunes=tuple(TUNES) if instruments else (),
        max_voice_s=frontend.max_voice_s,
        takes_video=frontend.takes_video,
        limits=_limits(bundle, frontend),
        examples={task: tuple(texts) for task, texts in settings.get("examples", {}).items()},
    )


def _settings(folder: Path) -> dict[str, Any]:
    return read_json(folder / "frontend.json", BundleError)


def _limits(bundle: Bundle, frontend: Any) -> dict[str, str]:
    limits = {}
    if isinstance(frontend, TimelineFrontEnd):
        seconds = frontend.max_frames / frontend.frame_rate_hz
        limits["text"] = f"{frontend.max_characters} characters and {seconds:.1f} s at a time; longer texts are split"
        if frontend.instruments:
            music = frontend.music
            limits["music"] = (
                f"{music.max_notes} notes, {music.max_voices} of them together; {note_name(music.lowest_pitch)} to "
                f"{note_name(music.highest_pitch)}; {music.lowest_tempo_bpm:g} to {music.highest_tempo_bpm:g} bpm"
            )
    elif bundle.codec is not None:
        rate_hz = bundle.codec["sample_rate_hz"] / bundle.codec["hop_samples"]
        for task, sampling in bundle.sampling.items():
            limits[task] = _longest(sampling, rate_hz)
    if bundle.codec is not None:
        limits["sound"] = f"{bundle.codec['sample_rate_hz'] / 1000:g} kHz, mono"
    return limits


def _longest(sampling: SamplingConfig, frame_rate_hz: float) -> str:
    return f"{sampling.max_steps / frame_rate_hz:.0f} s of audio at most"
