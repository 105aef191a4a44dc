"""The published model's front end: the tokenizer and templates that turn text into the prompts of its training.

The templates are data (`frontend.json`). In them {text} is the text to speak or play, {voice} the places of a voice
prompt's codec rows, {voice_text} that recording's words, {video} the places of a clip's embeddings. A guided pair's
unconditional row is the same prompt with another text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from unimoe_runtime.errors import BundleError, ConfigError, PromptError
from unimoe_runtime.files.text import read_text, reason_of
from unimoe_runtime.frontend.options import NO_OPTIONS, SpeechOptions
from unimoe_runtime.frontend.prepared import PreparedPrompt, Recording, VideoPrompt, VoicePrompt
from unimoe_runtime.frontend.protocols import TASKS
from unimoe_runtime.frontend.settings import PublishedSettings
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.mrope import video_positions
from unimoe_runtime.records import shown

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KIND: Final = "published"
FORMAT_VERSION: Final = 1
TOKENIZER: Final = "tokenizer.json"
TEMPLATES: Final = {
    "speech": frozenset({"text", "voice", "voice_text"}),
    "music": frozenset({"text"}),
    "video_music": frozenset({"text", "video"}),
}
"""Each template's fields."""
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class PublishedFrontEnd:
    """`frontend.FrontEnd` with a tokenizer and templates.

    `unconditional` is each template's text in the unconditional row; `placeholder` and `video_token` stand for one
    codec row and one video embedding. A prompt holds at most `max_prompt_tokens`.
    """

    tokenizer: Tokenizer
    templates: Mapping[str, str]
    unconditional: Mapping[str, str]
    placeholder: str
    video_token: str
    pad_id: int
    max_prompt_tokens: int
    max_voice_s: float
    recordings: Mapping[str, Recording]

    takes_video = True
    tasks = TASKS
    instruments = ()

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> PublishedFrontEnd:
        """Read the tokenizer beside frontend.json. Raises BundleError where a file is missing or damaged."""
        path = folder / "frontend.json"
        if settings.get("format_version") != FORMAT_VERSION:
            raise BundleError(
                f"{path}: format version {shown(settings.get('format_version'))}; this release reads {FORMAT_VERSION}"
            )
        try:
            found = PublishedSettings.from_dict(settings, ignore_unknown=True)
            for name, fields in TEMPLATES.items():
                if name not in found.templates or name not in found.unconditional:
                    raise ConfigError(f"the template {name} is missing")
                if frozenset(_FIELD.findall(found.templates[name])) != fields:
                    raise ConfigError(f"the template {name} must have the fields {', '.join(sorted(fields))}")
            tokenizer = _read_tokenizer(folder / TOKENIZER)
            for token in (found.placeholder, found.video_token):
                if tokenizer.token_to_id(token) is None:
                    raise ConfigError(f"the tokenizer has no token {token!r}")
        except ConfigError as error:
            raise BundleError(f"{path}: incomplete or damaged ({error}); export again") from None
        return cls(
            tokenizer=tokenizer,
            templates=found.templates,
            unconditional=found.unconditional,
            placeholder=found.placeholder,
            video_token=found.video_token,
            pad_id=found.pad_id,
            max_prompt_tokens=found.max_prompt_tokens,
            max_voice_s=found.max_voice_s,
            recordings={
                name: Recording(path=folder / "voices" / Path(voice.file).name, text=voice.text)
                for name, voice in found.voices.items()
            },
        )

    @property
    def voices(self) -> tuple[str, ...]:
        return tuple(self.recordings)

    def load(self) -> None:
        """Nothing: all is read when it is opened."""

    def recording(self, voice: str) -> Recording | None:
        """The recording of a voice of this bundle; of the first voice where `voice` is empty."""
        return self.recordings.get(voice or next(iter(self.recordings), ""))

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
        """The single prompt of a text: the model reads raw text, up to the limit of its prompt.

        Raises PromptError where the request asks for a speed or for pronunciations.
        """
        if options != NO_OPTIONS:
            asked = "lexicon" if options.speed == 1 else "speed"
            raise PromptError(f"this model reads text by itself and takes no {asked}: leave it out")
        yield self.build_prompt(task, text, voice, voice_prompt=voice_prompt, video=video)

    def build_prompt(
        self,
        task: str,
        text: str,
        voice: str = "",
        *,
        voice_prompt: VoicePrompt | None = None,
        video: VideoPrompt | None = None,
    ) -> PreparedPrompt:
        """The guided pair of rows for one utterance, whose length is not known in advance.

        `voice` only names what `voice_prompt` holds. Raises PromptError, one line, for input that the model cannot
        speak or play.
        """
        template, values = self._request(task, voice, voice_prompt, video)
        text = self._checked(text, "text")
        if voice_prompt is not None:
            values["voice_text"] = self._checked(voice_prompt.text, "voice's text")
        rows = [self._ids(template, {**values, "text": words}) for words in (self.unconditional[template], text)]
        if len(rows[1]) > self.max_prompt_tokens:
            raise PromptError(
                f"the prompt has {len(rows[1])} tokens; the limit is {self.max_prompt_tokens}: give a shorter text, "
                "voice or video"
            )
        prompt = Prompt.from_rows(
            rows,
            codec_ids_PK=None if voice_prompt is None else np.tile(voice_prompt.codec_rows_RK, (2, 1)),
            placeholder_id=None if voice_prompt is None else self.tokenizer.token_to_id(self.placeholder),
            pad_id=self.pad_id,
            paired=True,
            num_shared=self._num_shared(template, values, rows),
        )
        if video is not None:
            prompt = self._with_video(prompt, video)
        return PreparedPrompt(prompt=prompt, expected_frames=None, caption=text)

    def _request(
        self, task: str, voice: str, voice_prompt: VoicePrompt | None, video: VideoPrompt | None
    ) -> tuple[str, dict[str, str]]:
        """The template for a request, and its fields' values except the text."""
        if task == "speech":
            if video is not None:
                raise PromptError("speech takes no video; music does: --task music")
            if voice_prompt is None:
                names = f", or one of {', '.join(self.voices)}" if self.voices else ""
                there = f"there is no voice {voice!r}: " if voice else ""
                raise PromptError(
                    f"{there}this model speaks in a voice that it hears: give a recording with --voice FILE, and with "
                    f"--voice-text what it says{names}"
                )
            return "speech", {"voice": self.placeholder * len(voice_prompt.codec_rows_RK)}
        if task != "music":
            raise PromptError(f"there is no task {task!r}; it can be {' or '.join(TASKS)}")
        if voice or voice_prompt is not None:
            raise PromptError("music takes no voice: leave --voice out, and describe the music with --text")
        if video is None:
            return "music", {}
        return "video_music", {"video": self.video_token * len(video.features.embeddings_VC)}

    def _checked(self, text: str, what: str) -> str:
        """The user's text, checked: not empty, and without tokens of the templates."""
        if not text.strip():
            raise PromptError(f"the {what} is empty: give some words")
        framing = self.tokenizer.get_added_tokens_decoder()
        for index in self.tokenizer.encode(text, add_special_tokens=False).ids:
            if index in framing:
                raise PromptError(
                    f"the {what} holds {framing[index].content}, which frames the model's prompts: leave it out"
                )
        return text

    def _ids(self, template: str, values: Mapping[str, str]) -> list[int]:
        text = _FIELD.sub(lambda field: values[field[1]], self.templates[template])
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _num_shared(self, template: str, values: Mapping[str, str], rows: Sequence[Sequence[int]]) -> int:
        """The number of tokens before the text that are the same for every text, in all rows."""
        ids = self._ids(template, {**values, "text": ""})
        alike = (len(set(ids_of_place)) == 1 for ids_of_place in zip(ids, *rows, strict=False))
        return sum(takewhile(bool, alike))

    def _with_video(self, prompt: Prompt, video: VideoPrompt) -> Prompt:
        """Both rows see the clip, so that guidance strengthens the text, as in the published code."""
        features, config = video.features, video.config
        positions_3BT, first_position_B = video_positions(
            prompt.text_ids_BT, prompt.mask_BT, [features.grid] * 2, [features.seconds_per_grid] * 2, config
        )
        return replace(
            prompt,
            positions=positions_3BT,
            first_position_B=first_position_B,
            video_embeddings_VC=np.tile(features.embeddings_VC, (2, 1)),
            video_token_id=config.video_token_id,
        )


def _read_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    text = read_text(path, BundleError)
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the tokenizers package raises Exception itself
        raise BundleError(f"{path}: no tokenizer ({reason_of(error)}); export again") from None
