"""Pitch of statements and questions, spoken by a bundle and by the teacher of its voices.

    python -m benchmarks.prosody BUNDLE [--voices heart george] [--picture FILE.png] [--json FILE]

Every sentence is spoken twice: as a statement and as a question. The final rise is the pitch of the last voiced 0.25 s
over the median of the utterance, in semitones. "Words" is the correlation of the median pitch of each word with the
teacher's, both relative to their utterance's median. The picture shows one sentence: log-mel spectrum, pitch and words.

Shapes: L samples, T frames, M mel bands.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

import numpy as np
import torch

from unimoe.codec.pitch import track_pitch
from unimoe.data.kokoro import SAMPLE_RATE_HZ, VOICES, open_teacher
from unimoe.data.speech_texts import split_phrases
from unimoe_runtime.audio.log_mel import log_mel
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

SENTENCES: Final = (
    "You are coming home tonight", "They have already left the house", "She can see the mountain from here",
    "The shop on the corner is open", "He is going to sell the boat", "The meeting was moved to Friday",
)  # fmt: skip
_MARKS: Final = {"statement": ".", "question": "?"}
_HOP_S: Final = 0.01
_FINAL_S: Final = 0.25
_CLEAR: Final = 0.7  # minimum clarity of a pitch
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 500.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance:
    """Audio, the start and end of its words in seconds, and its pitch every 10 ms in semitones, NaN without one."""

    pcm_L: np.ndarray
    sample_rate_hz: int
    words: tuple[tuple[str, float, float], ...]
    pitch_T: np.ndarray

    @property
    def relative_T(self) -> np.ndarray:
        relative_T: np.ndarray = self.pitch_T - np.nanmedian(self.pitch_T)
        return relative_T

    def final_rise(self) -> float:
        """Pitch of the last voiced part over the median, in semitones."""
        voiced = np.flatnonzero(~np.isnan(self.pitch_T))
        last = voiced[voiced > voiced[-1] - _FINAL_S / _HOP_S]
        return float(np.median(self.relative_T[last]))

    def word_pitches(self) -> list[float]:
        """Median of each word, NaN for one without pitch."""
        parts = [self.relative_T[round(start / _HOP_S) : round(end / _HOP_S)] for _, start, end in self.words]
        return [float(np.nanmedian(part)) if (~np.isnan(part)).any() else np.nan for part in parts]


def measured(pcm_L: np.ndarray, rate_hz: int, words: Sequence[tuple[str, float, float]]) -> Utterance:
    centres_T = torch.arange(0, len(pcm_L), round(_HOP_S * rate_hz))
    hz_BT, clarity_BT = track_pitch(
        torch.from_numpy(pcm_L)[None].float(), rate_hz, centres_T, lowest_hz=_LOWEST_HZ, highest_hz=_HIGHEST_HZ
    )
    hz_T, clear_T = hz_BT[0].numpy(), clarity_BT[0].numpy() > _CLEAR
    pitch_T = np.where(clear_T, 12 * np.log2(np.maximum(hz_T, 1.0)), np.nan)
    return Utterance(pcm_L=pcm_L, sample_rate_hz=rate_hz, words=tuple(words), pitch_T=pitch_T)


def by_teacher(voice: str, text: str) -> Utterance:
    phrases = split_phrases(text)
    clip = open_teacher().speak(phrases, voice)
    names = [word for phrase in phrases for word in phrase.words]
    words = [(name, start, end) for name, (start, end) in zip(names, clip.word_times(), strict=True)]
    return measured(clip.pcm_L, SAMPLE_RATE_HZ, words)


def by_bundle(synthesizer: Synthesizer, voice: str, text: str) -> Utterance:
    made = synthesizer.synthesize(SynthesisRequest(text=text, voice=voice, seed=1))
    words = [(word.word, word.start_s, word.end_s) for word in made.words]
    return measured(np.asarray(made.pcm_L, np.float32), made.sample_rate_hz, words)


def compare(pairs: Sequence[tuple[Utterance, Utterance]]) -> dict[str, float]:
    """Figures of pairs of the teacher's and the bundle's utterances."""
    words = np.array(
        [both for teacher, made in pairs for both in zip(teacher.word_pitches(), made.word_pitches(), strict=True)]
    )
    words = words[~np.isnan(words).any(axis=1)]
    return {
        "final rise, teacher": median(teacher.final_rise() for teacher, _ in pairs),
        "final rise, made": median(made.final_rise() for _, made in pairs),
        "same direction": fmean((teacher.final_rise() > 0) == (made.final_rise() > 0) for teacher, made in pairs),
        "words": float(np.corrcoef(words.T)[0, 1]),
    }


def draw(rows: dict[str, tuple[Utterance, Utterance]], path: Path) -> None:
    """A row for each voice and kind of sentence: the teacher's utterance on the left, the bundle's on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.1 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 2, squeeze=False)
    for (name, pair), places in zip(rows.items(), axes, strict=True):
        for axis, utterance, source in zip(places, pair, ("teacher", "this model"), strict=True):
            _draw_one(axis, utterance, f"{name}, {source}")
    figure.savefig(path, dpi=80, metadata={"Software": None})


def _draw_one(axis: Any, utterance: Utterance, title: str) -> None:
    mel_MT = log_mel(utterance.pcm_L, utterance.sample_rate_hz, num_bands=80).T
    seconds = len(utterance.pcm_L) / utterance.sample_rate_hz
    low = mel_MT.max() - 16
    axis.imshow(mel_MT.clip(low), origin="lower", aspect="auto", extent=(0, seconds, 0, 80), cmap="magma")
    axis.set_yticks([])
    axis.set_ylabel("mel bands", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.set_title(title, fontsize=9)
    for word, start, end in utterance.words:
        axis.text((start + end) / 2, 75, word, color="white", fontsize=7, ha="center")
    pitch = axis.twinx()
    pitch.plot(np.arange(len(utterance.pitch_T)) * _HOP_S, 2 ** (utterance.pitch_T / 12), "c.", markersize=3)
    pitch.set_ylim(_LOWEST_HZ, 400)
    pitch.set_ylabel("pitch, Hz", fontsize=8)
    pitch.tick_params(labelsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--voices", nargs="+", default=list(VOICES), choices=list(VOICES))
    parser.add_argument("--picture", type=Path, help="draw the first sentence of the first and the last voice")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[Utterance, Utterance]]] = {}
    with Synthesizer.open(arguments.bundle) as synthesizer:
        for voice in arguments.voices:
            for kind, mark in _MARKS.items():
                found[voice, kind] = [
                    (by_teacher(voice, text + mark), by_bundle(synthesizer, voice, text + mark)) for text in SENTENCES
                ]
    result: dict[str, dict[str, float]] = {}
    for kind in _MARKS:
        result[kind] = compare([pair for (_, of), pairs in found.items() if of == kind for pair in pairs])
        print(f"{kind}s: " + ", ".join(f"{name} {value:+.2f}" for name, value in result[kind].items()))
    if arguments.picture:
        shown = dict.fromkeys((arguments.voices[0], arguments.voices[-1]))
        rows = {f"{voice}, {kind}": found[voice, kind][0] for voice in shown for kind in _MARKS}
        draw(rows, arguments.picture)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
