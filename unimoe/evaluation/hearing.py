"""Listens to every clip of a speech corpus and reports the clips that the teacher got wrong.

    DIR/heard.jsonl   one line a clip: key, transcript, word errors, phoneme errors, why it is left out

Phonemes decide about a clip, since a recognizer misspells rare words and names that are pronounced correctly
("parked truck" and "park truck" differ by one phoneme).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe.data.cmudict import read_dictionary
from unimoe.data.json_lines import append_json_lines
from unimoe.data.parallel import spread
from unimoe.data.speaking import HEARD, read_heard, require_clips
from unimoe.evaluation.whisper import RATE_HZ, Size, Whisper, require_whisper
from unimoe.evaluation.word_errors import compare_tokens, count_errors
from unimoe.stopping import kept_when_stopped
from unimoe_runtime.audio.files import read_audio
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.pronunciation import Pronouncer, spell
from unimoe_runtime.frontend.reading import read_phrases

MAX_PHONEME_ERRORS: Final = 0.25
"""Maximum phoneme errors of a clip, as a share of its phonemes. A clip with more is left out."""
FASTEST_PHONEMES_PER_S: Final = 25.0
SLOWEST_PHONEMES_PER_S: Final = 3.0
TOO_FAST_OR_SLOW: Final = "too fast or too slow"
_QUICK: Final = ((2.0, 1), (6.0, 5))
"""Quick hearings, the cheapest first: seconds that follow, and beam. Both reduce repeated words."""
_EDGE_S: Final = 0.3  # seconds of silence around a clip: Whisper misses words at the very edge


@cache
def _open(size: Size) -> Whisper:
    return Whisper(size)


def hear_clip(clip: Mapping[str, Any], folder: Path, size: Size) -> dict[str, Any]:
    """The heard.jsonl line of one clip.

    Most clips pass in a quick hearing. A clip is left out only after a full one, since the quick ones mishear more.
    """
    padding_L = np.zeros(round(_EDGE_S * RATE_HZ), np.float32)
    pcm_L = np.concatenate([padding_L, read_audio(folder / clip["audio"], RATE_HZ), padding_L])
    judge = _open(size)
    quick = [partial(judge.hear_quickly, margin_s=margin_s, beam_size=beam_size) for margin_s, beam_size in _QUICK]
    hearings: list[Callable[[np.ndarray], str]] = [*quick, judge]
    for hear in hearings:
        heard = hear(pcm_L)
        verdict = judge_clip(clip, heard)
        if verdict["left_out"] in ("", TOO_FAST_OR_SLOW):
            break
    return {"key": clip["key"], "heard": heard, "by": size, **verdict}


def judge_clip(clip: Mapping[str, Any], heard: str) -> dict[str, Any]:
    """Word and phoneme errors of a transcript, and `left_out`: why the clip is rejected, or an empty string."""
    words = count_errors(_spoken(clip), heard)
    said = [phoneme.rstrip("012") for phoneme, _, word in clip["phonemes"] if word >= 0]
    phoneme_errors = 0.0 if words.errors == 0 else compare_tokens(said, _phonemes(heard)).rate
    pace = len(said) / max(0.1, sum(duration_s for _, duration_s, word in clip["phonemes"] if word >= 0))
    reason = ""
    if not heard.strip():
        reason = "nothing heard"
    elif phoneme_errors > MAX_PHONEME_ERRORS:
        reason = "other words heard"
    elif not SLOWEST_PHONEMES_PER_S <= pace <= FASTEST_PHONEMES_PER_S:
        reason = TOO_FAST_OR_SLOW
    return {
        "word_errors": words.errors,
        "words": words.words,
        "phoneme_errors": round(phoneme_errors, 3),
        "left_out": reason,
    }


def hear_corpus(folder: Path, *, size: Size = "tiny.en", num_workers: int = 1) -> Iterator[int]:
    """Hear the clips that have not been heard yet. Yields the number of finished clips.

    Raises Unmeasured or OutputError, before anything is written, where something is not installed, and OutputError for
    a folder without clips.
    """
    clips, heard = require_clips(folder), read_heard(folder)
    if others := {str(line.get("by")) for line in heard} - {size}:
        raise OutputError(f"{folder / HEARD} is by the judge {min(others)}: go on with that one, or remove the file")
    require_whisper(size)
    read_dictionary()
    done = {line["key"] for line in heard}
    waiting = [clip for clip in clips if "audio" in clip and clip["key"] not in done]
    kept = kept_when_stopped(lambda: f"{len(read_heard(folder))} verdicts are kept; the same command goes on there")
    with kept, spread(num_workers) as run, append_json_lines(folder / HEARD) as write:
        hear: Callable[[Mapping[str, Any]], dict[str, Any]] = partial(hear_clip, folder=folder, size=size)
        for count, line in enumerate(run(hear, waiting), start=len(done) + 1):
            write(line)
            yield count


def _spoken(clip: Mapping[str, Any]) -> str:
    """The clip's words."""
    return " ".join(word for word, _, _ in clip["words"])


def _phonemes(text: str) -> list[str]:
    """Phonemes of a transcript, without stress."""
    words = [word for phrase in read_phrases(text) for word in phrase]
    return [phoneme.rstrip("012") for sounds in _pronouncer().phrase_words(words) for phoneme in sounds]


@cache
def _pronouncer() -> Pronouncer:
    return Pronouncer(dictionary=read_dictionary(), sound_out=spell)


def left_out_counts(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many clips each reason removed, largest count first."""
    counts: dict[str, int] = {}
    for line in lines:
        if line["left_out"]:
            counts[line["left_out"]] = counts.get(line["left_out"], 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: -entry[1]))
