"""What Whisper hears of a bundle's voices: everyday sentences, digit strings and commands, with DNSMOS and word times.

    python -m benchmarks.everyday_speech BUNDLE [--texts 40] [--judges base tiny.en] [--corpus CORPUS] [--json FILE]
    python -m benchmarks.everyday_speech teacher [--texts 40] [--codec checkpoints/voices/codec]

Every voice speaks the sentences of benchmarks/data/everyday_sentences.txt, none of which any model here was trained on,
and digit strings and commands whose texts are held out. "Rotated" compares what is heard with the next text. The times
of words are the own ones of the bundle against those of Whisper, which are not exact either. With a corpus, also how
many held-out clips are taken for the right voice or instrument, and how many notes are exact. `teacher` is the
recordings' own speaker, Kokoro: what it cannot make a judge hear, no voice trained on it can be asked for.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

import numpy as np
import torch

from unimoe.codec.base import Codec, load_codec
from unimoe.data.corpus import Corpus
from unimoe.data.kokoro import SAMPLE_RATE_HZ, VOICES, open_teacher
from unimoe.data.loudness import normalise_loudness
from unimoe.data.parallel import spread
from unimoe.data.speech_texts import split_phrases
from unimoe.data.texts import all_commands, draw_digit_strings, split_of
from unimoe.evaluation.clips import held_out, make_clips
from unimoe.evaluation.clips import measure as measure_clips
from unimoe.evaluation.quality import Dnsmos
from unimoe.evaluation.spoken_form import spoken_tokens
from unimoe.evaluation.suite import synthesize_with
from unimoe.evaluation.whisper import HeardWord, Size, Whisper
from unimoe.evaluation.word_errors import WordErrors, rotated_errors, total_errors
from unimoe_runtime.audio.files import resample
from unimoe_runtime.frontend.prepared import WordTime
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

SENTENCES: Final = Path(__file__).parent / "data" / "everyday_sentences.txt"
TEACHER: Final = "teacher"
TIMED: Final = "sentences"  # of these also DNSMOS and the times of words
_RATE_HZ: Final = 16000
_EDGE_S: Final = 0.3  # silence around a clip: Whisper misses words at the very edge
_SCORED_EVERY: Final = 4  # DNSMOS takes half a second a clip


@dataclass(frozen=True, kw_only=True, eq=False)
class Spoken:
    """One clip, at 16 kHz, with the times that the bundle gives its words."""

    voice: str
    text: str
    pcm_L: np.ndarray
    words: tuple[WordTime, ...]


def texts_of(kind: str, count: int) -> list[str]:
    """Sentences, digit strings or commands."""
    if kind == TIMED:
        return SENTENCES.read_text(encoding="utf-8").splitlines()[:count]
    rng = random.Random(11)
    drawn = draw_digit_strings(2000, rng) if kind == "digits" else rng.sample(all_commands(), 600)
    written = [f"{text.capitalize()}." for text in drawn]
    return [text for text in written if split_of(text) == "test"][: max(4, count // 4)]


def speak(synthesizer: Synthesizer, voice: str, texts: Sequence[str]) -> list[Spoken]:
    found = []
    for seed, text in enumerate(texts):
        made = synthesizer.synthesize(SynthesisRequest(text=text, voice=voice, seed=seed))
        pcm_L = resample(made.pcm_L, made.sample_rate_hz, _RATE_HZ)
        found.append(Spoken(voice=voice, text=text, pcm_L=pcm_L, words=made.words))
    return found


def speak_as_teacher(voice: str, texts: Sequence[str], codec: Codec | None = None) -> list[Spoken]:
    """The same texts by the voice's teacher, encoded and decoded by `codec` where there is one.

    Raises OutputError where one of the teacher's packages is missing.
    """
    found = []
    for text in texts:
        made = open_teacher().speak(split_phrases(text), voice)
        pcm_L, rate_hz = made.pcm_L, SAMPLE_RATE_HZ
        if codec is not None:
            # Recordings have this loudness, so the codec learnt at it.
            pcm_L = _through(codec, resample(normalise_loudness(pcm_L), rate_hz, codec.sample_rate_hz))
            rate_hz = codec.sample_rate_hz
        pcm_L = resample(pcm_L, rate_hz, _RATE_HZ)
        words = zip(text.split(), made.word_times(), strict=True)
        times = tuple(WordTime(word=word, start_s=start_s, end_s=end_s) for word, (start_s, end_s) in words)
        found.append(Spoken(voice=voice, text=text, pcm_L=pcm_L, words=times))
    return found


@torch.inference_mode()
def _through(codec: Codec, pcm_L: np.ndarray) -> np.ndarray:
    made_L: np.ndarray = codec.decode(codec.encode(torch.from_numpy(pcm_L)[None]))[0, : len(pcm_L)].numpy()
    return made_L


def word_distances_s(times: Sequence[WordTime], heard: Sequence[HeardWord], late_s: float) -> list[float]:
    """Distances of the starts of words. Only clips in which Whisper hears every word count."""
    said = [spoken_tokens(word.word) for word in times]
    if said != [spoken_tokens(word.word) for word in heard]:
        return []
    return [abs(time.start_s - (word.start_s - late_s)) for time, word in zip(times, heard, strict=True)]


def measure(clips: Sequence[Spoken], judges: Sequence[Whisper], *, timed: bool) -> dict[str, Any]:
    """Word errors by judge, and for `timed` clips DNSMOS and the distance of word times."""
    padding_L = np.zeros(round(_EDGE_S * _RATE_HZ), np.float32)
    padded = [np.concatenate([padding_L, clip.pcm_L, padding_L]) for clip in clips]
    texts = [clip.text for clip in clips]
    found: dict[str, Any] = {}
    for judge in judges:
        heard = [judge(pcm_L) for pcm_L in padded]
        errors = total_errors(texts, heard)
        found[f"whisper {judge.size}"] = {
            **errors.to_dict(),
            "rotated_wer": round(rotated_errors(texts, heard).rate, 4),
            "heard": heard,
            "gaps_of_3": sum(total_errors([a], [b]).longest_gap >= 3 for a, b in zip(texts, heard, strict=True)),
        }
    if timed:
        dnsmos = Dnsmos()
        found["dnsmos"] = round(fmean(dnsmos(clip.pcm_L)[2] for clip in clips[::_SCORED_EVERY]), 3)
        distances = [
            distance
            for clip, pcm_L in list(zip(clips, padded, strict=True))[::_SCORED_EVERY]
            for distance in word_distances_s(clip.words, judges[-1].word_times(pcm_L), _EDGE_S)
        ]
        found["word_start_distance_ms"] = round(1000 * median(distances)) if distances else None
    return found


def recognised(synthesizer: Synthesizer, corpus: Corpus, count: int) -> dict[str, float]:
    """Shares of held-out clips of `corpus`, `count` of each kind, that are taken for what they are, and of notes."""
    items = held_out(corpus, count, ("sentences", "questions"))
    clips = make_clips(synthesize_with(synthesizer, corpus.sample_rate_hz), corpus, items)
    return measure_clips(clips, corpus, []).summary()


@dataclass(frozen=True)
class Speakers:
    """Who speaks: a bundle or the teacher, perhaps through a codec. And who hears it."""

    bundle: str
    codec: Path | None
    judges: tuple[Size, ...]

    def voices(self) -> tuple[str, ...]:
        return tuple(VOICES) if self.bundle == TEACHER else tuple(_synthesizer(self.bundle).frontend.voices)

    def figures(self, texts: Sequence[str], asked: tuple[str, str]) -> dict[str, Any]:
        """What the judges make of the texts of a kind, spoken by a voice: `asked` is both."""
        kind, voice = asked
        if self.bundle == TEACHER:
            clips = speak_as_teacher(voice, texts, _codec(self.codec))
        else:
            clips = speak(_synthesizer(self.bundle), voice, texts)
        return {"texts": texts, **measure(clips, [_judge(size) for size in self.judges], timed=kind == TIMED)}


@cache
def _synthesizer(bundle: str) -> Synthesizer:
    """One for a process, as long as it lives."""
    return Synthesizer.open(bundle, threads=1)


@cache
def _codec(folder: Path | None) -> Codec | None:
    return None if folder is None else load_codec(folder)


@cache
def _judge(size: Size) -> Whisper:
    return Whisper(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a bundle's folder, or `teacher`")
    parser.add_argument("--texts", type=int, default=40, help="sentences of each voice [default: 40]")
    parser.add_argument("--judges", nargs="+", default=["base", "tiny.en"], choices=["base", "tiny.en"])
    parser.add_argument("--kinds", nargs="+", default=[TIMED, "digits", "commands"])
    parser.add_argument("--corpus", type=Path, help="for voices, instruments and notes, of its held-out clips")
    parser.add_argument("--codec", type=Path, help="a codec's folder: hear the teacher through it")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each [default: 2]")
    parser.add_argument("--json", type=Path, help="write the figures and what was heard")
    parser.add_argument("--misses", action="store_true", help="print what is heard otherwise")
    options = parser.parse_args()
    if options.codec and options.bundle != TEACHER:
        parser.error("--codec is for the teacher: a bundle has its own")
    torch.set_num_threads(1)
    speakers = Speakers(options.bundle, options.codec, tuple(options.judges))
    record: dict[str, Any] = {}
    with spread(options.workers) as run:
        for kind in options.kinds:
            work = [(kind, voice) for voice in speakers.voices()]
            spoken = run(partial(speakers.figures, texts_of(kind, options.texts)), work)
            for (_, voice), figures in zip(work, spoken, strict=True):
                record.setdefault(kind, {})[voice] = figures
                print(f"{kind}, {voice}: {_line(figures)}", flush=True)
                if options.misses:
                    _print_misses(figures, options.judges[0])
            print(f"{kind}, all {len(work)} voices: {_line(_mean(list(record[kind].values())))}", flush=True)
    if options.corpus and options.bundle != TEACHER:
        corpus = Corpus.open(options.corpus)
        record["corpus"] = recognised(_synthesizer(options.bundle), corpus, max(2, options.texts // 5))
        print(json.dumps(record["corpus"]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _line(figures: dict[str, Any]) -> str:
    parts = [
        f"{name} {100 * score['wer']:.1f} % ({score['substitutions']} substituted, {score['deletions']} deleted, "
        f"{score['insertions']} inserted, of {score['words']}; rotated {100 * score['rotated_wer']:.0f} %)"
        for name, score in figures.items()
        if name.startswith("whisper")
    ]
    others = [name for name in ("dnsmos", "word_start_distance_ms") if name in figures]
    parts += [f"{name.replace('_', ' ')} {figures[name]}" for name in others]
    return "; ".join(parts)


def _mean(voices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums of word errors, means of the other figures."""
    found: dict[str, Any] = {}
    fields = ("substitutions", "deletions", "insertions", "words")
    for name in voices[0]:
        if name.startswith("whisper"):
            errors = sum(
                (WordErrors(**{part: figures[name][part] for part in fields}) for figures in voices), WordErrors()
            )
            rotated = fmean(figures[name]["rotated_wer"] for figures in voices)
            found[name] = {**errors.to_dict(), "rotated_wer": rotated}
        elif name != "texts":
            known = [figures[name] for figures in voices if figures[name] is not None]
            found[name] = round(fmean(known), 3) if known else None
    return found


def _print_misses(figures: dict[str, Any], judge: str) -> None:
    for text, heard in zip(figures["texts"], figures[f"whisper {judge}"]["heard"], strict=True):
        if total_errors([text], [heard]).errors:
            print(f"   {text} | {heard}")


if __name__ == "__main__":
    main()
