"""Renders the speech corpus clip by clip. An interrupted run resumes.

DIR/clips.jsonl     one line for each clip, appended as it is rendered
DIR/audio/KEY.flac  24 kHz mono
DIR/README.txt      the fields of a line
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

import soundfile

from unimoe.data.corpus import Kind, to_int16
from unimoe.data.json_lines import append_json_lines, read_json_lines
from unimoe.data.kokoro import SAMPLE_RATE_HZ, fetch_kokoro, open_teacher
from unimoe.data.loudness import normalise_loudness
from unimoe.data.parallel import spread
from unimoe.data.speech_texts import SpeechRequest
from unimoe.stopping import kept_when_stopped
from unimoe_runtime.errors import ConfigError, OutputError
from unimoe_runtime.files.text import reason_of
from unimoe_runtime.records import Between, JsonRecord, Length, check_value, require

CLIPS: Final = "clips.jsonl"
HEARD: Final = "heard.jsonl"
_README: Final = """\
A speech corpus that is still growing: read clips.jsonl line by line; any beginning of it is balanced.

audio/KEY.flac   24 kHz mono, 16 bits, RMS 0.08 (less where the peak would pass 0.9)
clips.jsonl      one JSON object a line:
  key         number of the clip, and name of its audio
  audio       path of the audio from this folder
  kind        sentences, definitions, lines, dialogue, questions, numbers, dates, names, announcements, words, letters,
              long, digits, commands
  split       train, valid or test, by the text alone; test also where a held-out word is said
  voice       heart, bella (American women), michael, puck (American men), emma (British woman), george (British man)
  text        words and marks as spoken, numbers written out
  words       [word, start_s, end_s] ... in lower case; a single capital is the name of a letter
  phonemes    [phoneme, duration_s, word number] ...: ARPAbet in lower case with the stress digit on vowels (0, 1, 2);
              first "pau" (the silence before), a mark , ; : . ! ? for the pause after a phrase; word number -1 for
              pauses. Durations add up to duration_s.
  duration_s  length of the audio
heard.jsonl, if it is there: what the judge heard in each clip, and why it is left out (see `unimoe data hear`).
"""


def render_clip(request: SpeechRequest, folder: Path) -> dict[str, Any]:
    """Speak one request and write its audio. Returns its line of clips.jsonl, or its key and an `error`."""
    teacher = open_teacher()
    try:
        clip = teacher.speak(request.phrases, request.voice)
    except OutputError as error:
        return {"key": request.key, "error": str(error)}
    path = folder / "audio" / f"{request.key:06d}.flac"
    try:
        soundfile.write(path, to_int16(normalise_loudness(clip.pcm_L)), SAMPLE_RATE_HZ)
    except (soundfile.LibsndfileError, OSError) as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)}): is the disk full?") from None
    words = [word for phrase in request.phrases for word in phrase.words]
    starts_s_P = (0.0, *clip.ends_s_P[:-1])
    return {
        "key": request.key,
        "audio": f"audio/{path.name}",
        "kind": request.kind,
        "split": request.split,
        "voice": request.voice,
        "text": request.text,
        "words": [[word, *map(_rounded, times)] for word, times in zip(words, clip.word_times(), strict=True)],
        "phonemes": [
            [phoneme, _rounded(end_s - start_s), word]
            for phoneme, start_s, end_s, word in zip(
                clip.phonemes_P, starts_s_P, clip.ends_s_P, clip.word_P, strict=True
            )
        ],
        "duration_s": _rounded(len(clip.pcm_L) / SAMPLE_RATE_HZ),
    }


def render_speech(
    folder: Path, requests: Sequence[SpeechRequest], *, num_workers: int, hours: float | None = None
) -> Iterator[tuple[int, float]]:
    """Render what `folder` lacks until it holds `hours` of speech. Yields the clips and the hours so far.

    Raises OutputError, before anything is written, where something that the teacher needs is missing.
    """
    fetch_kokoro()
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    done = {line["key"]: line.get("duration_s", 0.0) for line in read_clips(folder)}
    spoken_s = sum(done.values())
    waiting = [request for request in requests if request.key not in done]
    kept = kept_when_stopped(lambda: f"{len(read_clips(folder))} clips are kept; the same command goes on there")
    with kept, spread(num_workers) as run, append_json_lines(folder / CLIPS) as write:
        for count, line in enumerate(run(partial(render_clip, folder=folder), waiting), start=len(done) + 1):
            write(line)
            spoken_s += line.get("duration_s", 0.0)
            yield count, spoken_s / 3600
            if hours is not None and spoken_s >= 3600 * hours:
                return


_Seconds = Annotated[float, Between(0, 1e6)]


@dataclass(frozen=True, kw_only=True)
class _Clip(JsonRecord):
    """A line of clips.jsonl. See `_README`."""

    key: Annotated[int, Between(0, 1 << 53)]
    audio: Annotated[str, Length(1, 1000)]
    kind: Kind
    split: Literal["train", "valid", "test"]
    voice: str
    text: str
    words: tuple[tuple[str, _Seconds, _Seconds], ...]
    phonemes: Annotated[tuple[tuple[str, _Seconds, Annotated[int, Between(-1, 1 << 31)]], ...], Length(1)]
    duration_s: _Seconds

    def check_together(self) -> None:
        path = PurePosixPath(self.audio)
        require(not path.is_absolute() and ".." not in path.parts, "audio", self.audio, "a path inside the folder")


def require_clips(folder: Path) -> list[dict[str, Any]]:
    """`read_clips`, of a folder with at least one line. Raises OutputError for any other folder."""
    clips = read_clips(folder)
    if not clips:
        raise OutputError(f"{folder} has no spoken clips: `unimoe data speak RECIPE FOLDER` makes them")
    return clips


def read_clips(folder: Path) -> list[dict[str, Any]]:
    """The lines of a speech folder's clips.jsonl. Raises OutputError where one is damaged."""
    clips = read_json_lines(folder / CLIPS, "key")
    for clip in clips:
        try:
            if "audio" in clip:
                _Clip.from_dict(clip, ignore_unknown=True)
            else:
                check_value(clip["key"], int, "key")
        except ConfigError as error:
            raise OutputError(f"{folder / CLIPS}: {error}; remove that line") from None
    return clips


@dataclass(frozen=True, kw_only=True)
class _Heard(JsonRecord):
    """A line of heard.jsonl."""

    key: Annotated[int, Between(0, 1 << 53)]
    left_out: str
    words: Annotated[int, Between(0, 1 << 31)] = 0
    word_errors: Annotated[int, Between(0, 1 << 31)] = 0


def read_heard(folder: Path) -> list[dict[str, Any]]:
    """The lines of a speech folder's heard.jsonl, none before it was heard. Raises OutputError where one is damaged."""
    heard = read_json_lines(folder / HEARD)
    try:
        for line in heard:
            _Heard.from_dict(line, ignore_unknown=True)
    except ConfigError as error:
        raise OutputError(f"{folder / HEARD}: {error}; remove that line") from None
    return heard


def _rounded(value_s: float) -> float:
    return round(value_s, 4)
