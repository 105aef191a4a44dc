"""Renders the speech corpus clip by clip. An interrupted run resumes.

DIR/clips.jsonl     one line for each clip, appended as it is rendered
DIR/audio/KEY.flac  24 kHz mono
DIR/README.txt      the fields of a line
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import soundfile

from unimoe.data.corpus import to_int16
from unimoe.data.kokoro import SAMPLE_RATE_HZ, open_teacher
from unimoe.data.loudness import normalise_loudness
from unimoe.data.parallel import spread
from unimoe.data.speech_texts import SpeechRequest
from unimoe_runtime.errors import OutputError

CLIPS: Final = "clips.jsonl"
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
    try:
        clip = open_teacher().speak(request.phrases, request.voice)
    except OutputError as error:
        return {"key": request.key, "error": str(error)}
    path = folder / "audio" / f"{request.key:06d}.flac"
    soundfile.write(path, to_int16(normalise_loudness(clip.pcm_L)), SAMPLE_RATE_HZ)
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
    """Render what `folder` lacks until it holds `hours` of speech. Yields the clips and the hours so far."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    done = {line["key"]: line.get("duration_s", 0.0) for line in read_lines(folder / CLIPS)}
    spoken_s = sum(done.values())
    waiting = [request for request in requests if request.key not in done]
    with spread(num_workers) as run, append_lines(folder / CLIPS) as write:
        for count, line in enumerate(run(partial(render_clip, folder=folder), waiting), start=len(done) + 1):
            write(line)
            spoken_s += line.get("duration_s", 0.0)
            yield count, spoken_s / 3600
            if hours is not None and spoken_s >= 3600 * hours:
                return


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON-lines file; none where there is no file. An incomplete last line is skipped."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@contextmanager
def append_lines(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that appends an object to a JSON-lines file at once. An incomplete last line stays separate."""
    was_cut_off = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as lines:
        lines.write("\n" if was_cut_off else "")

        def write(line: Mapping[str, Any]) -> None:
            lines.write(json.dumps(line) + "\n")
            lines.flush()

        yield write


def _rounded(value_s: float) -> float:
    return round(value_s, 4)
