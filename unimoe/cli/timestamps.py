"""Word times of synthesized speech, written as JSON or as subtitles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.prepared import WordTime
from unimoe_tools.output import require_writable, write_output

FORMATS = (".json", ".srt", ".vtt")
_WORDS_A_LINE = 7
_LONGEST_GAP_S = 0.6


def require_format(path: Path) -> None:
    """Raise OutputError for a file name that matches none of FORMATS, or in a folder that cannot be written."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: word times can be written as {', '.join(FORMATS)}")
    require_writable(path)


def write_timestamps(path: Path, words: Sequence[WordTime]) -> None:
    """Write word times in the format that the file name gives."""
    match path.suffix.lower():
        case ".json":
            content = json.dumps([_rounded(asdict(word)) for word in words], indent=1) + "\n"
        case ".srt":
            cues = enumerate(_cues(words), start=1)
            content = "\n".join(f"{number}\n{_span(cue, ',')}\n{_text(cue)}\n" for number, cue in cues)
        case _:
            content = "WEBVTT\n\n" + "\n".join(f"{_span(cue, '.')}\n{_text(cue)}\n" for cue in _cues(words))
    write_output(path, content)


def _rounded(times: dict[str, Any]) -> dict[str, Any]:
    """A word's record without the noise of added floating-point numbers, to a tenth of a millisecond."""
    rounded: dict[str, Any] = {
        name: round(value, 4) if isinstance(value, float) else value for name, value in times.items()
    }
    if "phonemes" in times:
        rounded["phonemes"] = [_rounded(phoneme) for phoneme in times["phonemes"]]
    return rounded


def _cues(words: Sequence[WordTime]) -> list[list[WordTime]]:
    """Words in lines of a few; a pause also ends a line."""
    cues: list[list[WordTime]] = []
    for word in words:
        if not cues or len(cues[-1]) == _WORDS_A_LINE or word.start_s - cues[-1][-1].end_s > _LONGEST_GAP_S:
            cues.append([])
        cues[-1].append(word)
    return cues


def _text(cue: Sequence[WordTime]) -> str:
    return " ".join(word.word for word in cue)


def _span(cue: Sequence[WordTime], point: str) -> str:
    """A cue's times. Players skip a cue without length; a word that the audio's end cuts off could have none."""
    start_ms = round(1000 * cue[0].start_s)
    end_ms = max(round(1000 * cue[-1].end_s), start_ms + 1)
    return f"{_clock(start_ms, point)} --> {_clock(end_ms, point)}"


def _clock(milliseconds: int, point: str) -> str:
    minutes, seconds = divmod(milliseconds // 1000, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{point}{milliseconds % 1000:03d}"
