"""Pitch and intelligibility measures on material with known answers, and their figures for a codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe.data.corpus import Corpus, write_audio, write_index
from unimoe.data.melodies import Note
from unimoe.evaluation import intelligibility
from unimoe.evaluation.codec import evaluate_codec
from unimoe.evaluation.pitch import NoteScore, score_notes, yin

RATE_HZ = 16000


def tone(frequency_hz: float, seconds: float, overtones: int = 5) -> np.ndarray:
    time_L = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    parts = (0.2 / n * np.sin(2 * np.pi * n * frequency_hz * time_L) for n in range(1, overtones + 1))
    return sum(parts, start=np.zeros_like(time_L))


@pytest.mark.parametrize("frequency_hz", [120.0, 261.63, 440.0, 783.99, 1046.5])
def test_pitch_of_a_tone(frequency_hz: float) -> None:
    pitch_T = yin(tone(frequency_hz, 0.5), RATE_HZ)[3:-3]
    assert pitch_T == pytest.approx(frequency_hz, rel=0.005)


def test_silence_and_noise_have_no_pitch() -> None:
    assert np.isnan(yin(np.zeros(8000), RATE_HZ)).all()
    noise = np.random.default_rng(0).normal(scale=0.1, size=8000)
    assert np.isnan(yin(noise, RATE_HZ)).mean() > 0.8


def test_notes_are_scored() -> None:
    notes = [Note(pitch=p, start_s=0.5 * i, end_s=0.5 * i + 0.45) for i, p in enumerate((60, 64, 67, 69))]
    hertz = [261.63, 329.63, 783.99, 466.16]  # right, right, an octave high, a semitone high
    pcm_L = np.concatenate([tone(f, 0.5) for f in hertz])
    assert score_notes(pcm_L, RATE_HZ, notes) == NoteScore(exact=2, up_to_octave=3, total=4)
    assert score_notes(0 * pcm_L, RATE_HZ, notes) == NoteScore(exact=0, up_to_octave=0, total=4)


def test_words_are_what_a_recognizer_writes() -> None:
    assert intelligibility.words_of("It's Anna's, at 7 o'clock!") == ["it's", "anna's", "at", "7", "o'clock"]


@pytest.mark.parametrize("grammar", [intelligibility.digit_grammar(), intelligibility.command_grammar()])
def test_grammars_are_understood(grammar: str) -> None:
    pytest.importorskip("pocketsphinx")
    assert intelligibility.Recognizer(grammar)(np.zeros(4000, np.float32)) == ""


@pytest.mark.slow
def test_a_codec_is_heard_by_grammar_and_by_the_full_model(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    pytest.importorskip("pystoi")
    rng, rows = np.random.default_rng(0), []
    for source, kind, text in (("rms", "digits", "one two"), ("rms-sentences", "sentences", "It's late, he said.")):
        clips = [0.1 * rng.normal(size=RATE_HZ) for _ in range(2)]
        for offset in write_audio(tmp_path / f"{source}.npy", clips):
            place = {"source": source, "split": "test", "offset": offset, "length": RATE_HZ}
            rows.append({"domain": "speech", "kind": kind, "text": text, "voice": "rms", **place})
    write_index(tmp_path, rows, sample_rate_hz=RATE_HZ, licences={"rms": "none", "rms-sentences": "none"}, seed=0)
    torch.manual_seed(0)
    codec = ConvNeXtCodec(ConvNeXtCodecConfig(width=16, intermediate_size=16, codebook_size=4)).eval()
    found = evaluate_codec(codec, Corpus.open(tmp_path), clips_per_source=4, judges=("grammar", "pocketsphinx"))
    assert len(found.perplexity) == 4 and set(found.speech) == {"rms"} and not found.unmeasured
    words = found.speech["rms"].words
    assert words["grammar"].made.words == 4 and words["pocketsphinx"].made.words == 14
    for score in words.values():  # noise: few of the recognised words are right
        assert min(score.rates().values()) > 0.4


def test_intelligibility_of_the_same_and_of_noisy_speech() -> None:
    pytest.importorskip("pystoi")
    rng = np.random.default_rng(0)
    envelope_L = np.repeat(rng.random(40), RATE_HZ // 20)
    speech_L = rng.normal(size=len(envelope_L)) * envelope_L
    noisy_L = speech_L + rng.normal(size=len(speech_L))
    assert intelligibility.short_time_intelligibility(speech_L, speech_L, RATE_HZ) > 0.99
    assert intelligibility.short_time_intelligibility(speech_L, noisy_L, RATE_HZ) < 0.9
