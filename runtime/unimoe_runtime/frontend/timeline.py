"""The demo's front end: the position of a phoneme or note is the time at which it will sound.

A prompt is [voice or instrument, phonemes or notes …, separator]. Audio frame t has position origin + t. A phoneme or
note has the position of the middle of its expected time span, so that the model finds the next one at a fixed
distance. The guided pair's unconditional row has only the voice and the separator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe_runtime.errors import BundleError, ConfigError, PromptError
from unimoe_runtime.frontend.music import MusicRange, parse_description
from unimoe_runtime.frontend.normalisation import find_language
from unimoe_runtime.frontend.options import NO_OPTIONS, SpeechOptions
from unimoe_runtime.frontend.prepared import PreparedPrompt, VideoPrompt, VoicePrompt
from unimoe_runtime.frontend.pronunciation import PAUSE
from unimoe_runtime.frontend.protocols import TASKS, Durations, Pronunciations
from unimoe_runtime.frontend.reading import Notes, nothing_to_say
from unimoe_runtime.frontend.settings import PAD as PAD
from unimoe_runtime.frontend.settings import SEPARATOR as SEPARATOR
from unimoe_runtime.frontend.settings import TimelineSettings
from unimoe_runtime.frontend.speech import SpeechReader, Utterance
from unimoe_runtime.frontend.voice_files import read_durations, read_pronunciations
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.records import shown

KIND: Final = "timeline"
FORMAT_VERSION: Final = 1  # a lexicon of rules and a table of durations
STRESS_VERSION: Final = 2  # stress, marks as pauses, networks for other words and for durations


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A token, and its expected duration in seconds. `together`: the next token starts at the same time."""

    token: str
    duration_s: float
    together: bool = False


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The content of a prompt: the voice or instrument, and its sounds with their times."""

    source: str
    segments: tuple[Segment, ...]
    caption: str

    @property
    def duration_s(self) -> float:
        return sum(segment.duration_s for segment in self.segments if not segment.together)


@dataclass(frozen=True, kw_only=True)
class TimelineFrontEnd:
    """Turns text and music descriptions into prompts.

    `tokens` are the text ids in order. `language` names the tables for reading text. `origin` is the position of
    the first audio frame; `frame_rate_hz` the codec's. `max_characters` and `max_frames` limit a prompt.
    """

    frame_rate_hz: float
    origin: int
    max_characters: int
    max_frames: int
    default_voice: str
    tokens: Mapping[str, int]
    abbreviations: Mapping[str, str]
    lexicon: Pronunciations
    durations: Durations
    music: MusicRange
    language: str = "en"

    max_voice_s = 0.0
    takes_video = False

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> TimelineFrontEnd:
        """Read the data files beside frontend.json. Raises BundleError where one is missing or damaged."""
        version = settings.get("format_version")
        if version not in (FORMAT_VERSION, STRESS_VERSION):
            raise BundleError(
                f"{folder}/frontend.json: format version {shown(version)}; "
                f"this release reads {FORMAT_VERSION} and {STRESS_VERSION}"
            )
        try:
            found = TimelineSettings.from_dict(settings, ignore_unknown=True)
            find_language(found.language)  # its tables are read with the first text
        except ConfigError as error:
            raise BundleError(f"{folder}/frontend.json: incomplete or damaged ({error}); export again") from None
        return cls(
            frame_rate_hz=found.frame_rate_hz,
            origin=found.origin,
            max_characters=found.max_characters,
            max_frames=found.max_frames,
            default_voice=found.default_voice,
            tokens={token: index for index, token in enumerate(found.tokens)},
            abbreviations=found.abbreviations,
            lexicon=read_pronunciations(folder, found),
            durations=read_durations(folder, found),
            music=found.music,
            language=found.language,
        )

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for task, names in zip(TASKS, (self.voices, self.instruments), strict=True) if names)

    @cached_property
    def voices(self) -> tuple[str, ...]:
        return self._names("voice:")

    @cached_property
    def instruments(self) -> tuple[str, ...]:
        return self._names("instrument:")

    @cached_property
    def speech(self) -> SpeechReader:
        """The reader that turns text into words, phonemes and durations."""
        return SpeechReader(
            language=self.language,
            abbreviations=self.abbreviations,
            lexicon=self.lexicon,
            durations=self.durations,
            phonemes=frozenset(self._names("phoneme:")),
        )

    def timeline(self, task: str, text: str, voice: str = "", options: SpeechOptions = NO_OPTIONS) -> Timeline:
        """The sounds and their times. For music, `voice` is the instrument where the description names none.

        Raises PromptError, one line, for input that the model cannot speak or play in one prompt.
        """
        self._require(task, text)
        if len(text) > self.max_characters:
            raise PromptError(
                f"the text has {len(text)} characters; the limit is {self.max_characters}: split it into shorter pieces"
            )
        made = self.unlimited_timeline(task, text, voice, options)
        if made.duration_s * self.frame_rate_hz > self.max_frames:
            # Rounded apart, so that the two never read the same.
            raise PromptError(
                f"this would take about {math.ceil(10 * made.duration_s) / 10:.1f} s; the limit is "
                f"{math.floor(10 * self.max_frames / self.frame_rate_hz) / 10:.1f} s: split it into shorter pieces"
            )
        return made

    def unlimited_timeline(
        self, task: str, text: str, voice: str = "", options: SpeechOptions = NO_OPTIONS
    ) -> Timeline:
        """The sounds and their times, of any length. Raises PromptError as `timeline` does."""
        self._require(task, text)
        if task == "music":
            return self._melody(text, voice)
        voice = self._voice(voice)
        return self._timeline(self.speech.whole(text, voice, options), text, voice)

    def prepare(
        self,
        task: str,
        text: str,
        voice: str = "",
        options: SpeechOptions = NO_OPTIONS,
        *,
        voice_prompt: VoicePrompt | None = None,
        video: VideoPrompt | None = None,
    ) -> Iterator[PreparedPrompt]:
        """The prompts of a text in order, made lazily. Raises PromptError as `timeline` does."""
        _refuse(voice_prompt, video)
        if task != "speech":
            if options != NO_OPTIONS:
                raise PromptError("music takes neither a speed nor a lexicon: give its tempo, such as 120 bpm")
            yield self._prepared(self.timeline(task, text, voice))
            return
        notes = Notes()
        for said in self.utterances(text, voice, options, notes):
            prepared = self._prepared(self._timeline(said, text, self._voice(voice)))
            yield replace(
                prepared,
                silence_before_s=said.silence_before_s,
                silence_after_s=said.silence_after_s,
                warnings=notes.warnings,
                words=said.times,
            )

    def utterances(
        self, text: str, voice: str = "", options: SpeechOptions = NO_OPTIONS, notes: Notes | None = None
    ) -> Iterator[Utterance]:
        """Words, phonemes, durations and pauses of a text, prompt by prompt. Raises PromptError as `prepare` does."""
        self._require("speech", text)
        voice, notes = self._voice(voice), notes if notes is not None else Notes()
        empty, limit_s = True, self.max_frames / self.frame_rate_hz
        for utterance in self.speech.utterances(text, voice, options, limit_s, notes):
            empty = False
            yield utterance
        if empty:
            raise nothing_to_say(text)

    def load(self) -> None:
        """Compile the patterns for reading text, and complete the lexicon."""
        self.speech.load()

    def recording(self, voice: str) -> None:
        """None: the voices are part of the model's weights."""

    def build_prompt(
        self,
        task: str,
        text: str,
        voice: str = "",
        *,
        voice_prompt: VoicePrompt | None = None,
        video: VideoPrompt | None = None,
    ) -> PreparedPrompt:
        """The guided pair of rows for one utterance, and the utterance's expected length.

        Raises PromptError, one line, for input that the model cannot speak or play.
        """
        _refuse(voice_prompt, video)
        return self._prepared(self.timeline(task, text, voice))

    def _prepared(self, timeline: Timeline) -> PreparedPrompt:
        ids, positions = self.row(timeline)
        bare_ids, bare_positions = [ids[0], ids[-1]], [positions[0], positions[-1]]
        prompt = Prompt.from_rows(
            [bare_ids, ids],
            positions=[bare_positions, positions],
            first_positions=[self.origin] * 2,
            pad_id=self.tokens[PAD],
            paired=True,
        )
        frames = round(timeline.duration_s * self.frame_rate_hz)
        return PreparedPrompt(
            prompt=prompt, expected_frames=frames, slack_frames=round(self.frame_rate_hz), caption=timeline.caption
        )

    def row(self, timeline: Timeline) -> tuple[list[int], list[float]]:
        """Token ids and positions of one conditional row."""
        steps_s = [0.0 if segment.together else segment.duration_s for segment in timeline.segments]
        starts_s = np.cumsum([0.0, *steps_s])[:-1]
        middles_s = starts_s + [segment.duration_s / 2 for segment in timeline.segments]
        ids = [timeline.source, *(segment.token for segment in timeline.segments), SEPARATOR]
        positions = self.origin - 0.5 + middles_s * self.frame_rate_hz
        unknown = [token for token in ids if token not in self.tokens]
        if unknown:
            raise BundleError(f"the front end has no token {unknown[0]!r}: export the bundle again")
        return [self.tokens[token] for token in ids], [0.0, *positions.tolist(), self.origin - 1.0]

    def _require(self, task: str, text: str) -> None:
        if task not in self.tasks:
            raise PromptError(f"there is no task {task!r}; it can be {' or '.join(self.tasks)}")
        if not text.strip():
            raise PromptError("the text is empty: give some words to speak, or notes to play")

    def _names(self, prefix: str) -> tuple[str, ...]:
        return tuple(token.removeprefix(prefix) for token in self.tokens if token.startswith(prefix))

    def _voice(self, voice: str) -> str:
        voice = voice or self.default_voice
        if voice not in self.voices:
            raise PromptError(f"there is no voice {voice!r}; it can be {', '.join(self.voices)}")
        return voice

    def _timeline(self, utterance: Utterance, text: str, voice: str) -> Timeline:
        if not utterance.words:
            raise nothing_to_say(text)
        segments = tuple(
            Segment(token=f"phoneme:{phoneme}", duration_s=duration_s)
            for word in utterance.words
            for phoneme, duration_s in zip(word.phonemes, word.durations_s, strict=True)
        )
        return Timeline(source=f"voice:{voice}", segments=segments, caption=utterance.caption)

    def _melody(self, text: str, instrument: str) -> Timeline:
        melody = parse_description(text, self.instruments, self.music, instrument)
        pause = f"phoneme:{PAUSE}"
        beat_s = 60 / melody.tempo_bpm
        notes = [
            Segment(token=f"note:{pitch}", duration_s=chord.beats * beat_s, together=index < len(chord.pitches))
            for chord in melody.chords
            for index, pitch in enumerate(chord.pitches, start=1)
        ]
        lead = Segment(token=pause, duration_s=self.music.lead_s)
        tail = Segment(token=pause, duration_s=self.music.tail_s)
        segments = (lead, *notes, tail)
        return Timeline(source=f"instrument:{melody.instrument}", segments=segments, caption=melody.caption)


def _refuse(voice_prompt: VoicePrompt | None, video: VideoPrompt | None) -> None:
    if voice_prompt is not None or video is not None:
        raise PromptError("this model neither clones voices nor watches videos: it takes a text alone")
