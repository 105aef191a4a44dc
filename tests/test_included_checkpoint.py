"""The included checkpoint, exported and judged by its audio: words, notes, voices, instruments, routing.

The bounds are looser than the figures of its model card, which come from many more texts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from unimoe.data.corpus import Corpus, Item, write_audio, write_index
from unimoe.data.melodies import Note
from unimoe.data.texts import all_commands, draw_digit_strings, split_of
from unimoe.evaluation.forced import read_clips
from unimoe.evaluation.intelligibility import Recognizer, command_grammar, digit_grammar
from unimoe.evaluation.pitch import NO_NOTES, score_notes
from unimoe.evaluation.word_errors import rotated_errors, total_errors
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

pytestmark = pytest.mark.slow
CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "demo"
VOICES = ("rms", "slt", "awb", "kal16")
INSTRUMENTS = ("piano", "guitar", "violin", "trumpet", "flute", "clarinet", "oboe", "marimba")
TEMPO_BPM = 120


def unheard(texts: list[str], count: int) -> list[str]:
    """Texts of more than one word that are not in the training data."""
    return [text for text in texts if split_of(text) == "test"][:count]


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    bundle = tmp_path_factory.mktemp("included") / "bundle"
    export_bundle(CHECKPOINT, bundle)
    with Synthesizer.open(bundle) as opened:
        yield opened


@pytest.fixture(scope="module")
def spoken(synthesizer: Synthesizer) -> list[tuple[str, str, np.ndarray]]:
    """(text, voice, samples) of digit strings, then commands."""
    rng = random.Random(5)
    digits = unheard(draw_digit_strings(400, rng), 16)
    commands = unheard(rng.sample(all_commands(), 400), 16)
    asked = list(zip(digits + commands, VOICES * 8, strict=True))
    return [
        (text, voice, synthesizer.synthesize(SynthesisRequest(task="speech", text=text, voice=voice, seed=seed)).pcm_L)
        for seed, (text, voice) in enumerate(asked)
    ]


@pytest.fixture(scope="module")
def played(synthesizer: Synthesizer) -> list[tuple[str, str, np.ndarray]]:
    """(notes, instrument, samples)."""
    scale = "C4 D4 E4 F4 G4 A4 B4 C5 D5 E5 F5 G5".split()
    rng = random.Random(7)
    found = []
    for seed, instrument in enumerate(INSTRUMENTS):
        notes = " ".join(rng.sample(scale, 5))
        request = f"{instrument}, {TEMPO_BPM} bpm: {notes}"
        found.append(
            (notes, instrument, synthesizer.synthesize(SynthesisRequest(task="music", text=request, seed=seed)).pcm_L)
        )
    return found


@pytest.mark.parametrize(
    ("part", "grammar"),
    [(slice(0, 16), digit_grammar()), (slice(16, 32), command_grammar())],
    ids=["digits", "commands"],
)
def test_words_are_heard(spoken: list[tuple[str, str, np.ndarray]], part: slice, grammar: str) -> None:
    texts, _, clips = zip(*spoken[part], strict=True)
    recognize = Recognizer(grammar)
    heard = [recognize(pcm_L) for pcm_L in clips]
    assert total_errors(texts, heard).rate < 0.1
    assert rotated_errors(texts, heard).rate > 0.6


def test_notes_are_heard(synthesizer: Synthesizer, played: list[tuple[str, str, np.ndarray]]) -> None:
    score = NO_NOTES
    for notes, instrument, pcm_L in played:
        score += score_notes(pcm_L, 16000, written(synthesizer, notes, instrument))
    assert score.exact_share > 0.85 and score.octave_share > 0.9


def test_routing_is_dynamic_and_differs_between_speech_and_music(
    synthesizer: Synthesizer,
    spoken: list[tuple[str, str, np.ndarray]],
    played: list[tuple[str, str, np.ndarray]],
    tmp_path: Path,
) -> None:
    clips = [("speech", *clip) for clip in spoken[::4]] + [("music", *clip) for clip in played]
    offsets = write_audio(tmp_path / "made.npy", [pcm_L for *_, pcm_L in clips])
    rows = [
        {
            "source": "made", "domain": domain, "text": text, "split": "test", "offset": offset, "length": len(pcm_L),
            **({"kind": "digits", "voice": name} if domain == "speech"
               else {"kind": "melody", "instrument": name, "tempo_bpm": TEMPO_BPM}),
        }
        for (domain, text, name, pcm_L), offset in zip(clips, offsets, strict=True)
    ]  # fmt: skip
    write_index(tmp_path, rows, sample_rate_hz=16000, licences={"made": "made here"}, seed=0)
    items: list[Item] = list(Corpus.open(tmp_path))
    bundle = synthesizer.bundle
    record = read_clips(open_backend("onnxruntime", bundle), synthesizer.frontend, items, 16000).routing
    assert record is not None
    found = record.summary()
    assert found["experts_picked_deviation"] > 0.3
    assert 0.03 < found["null_share"] < 0.4
    assert found["load_smallest"] > 0.01
    assert found["domain_distance"] > 0.1 and found["domain_distance_by_chance"] < 0.01


def written(synthesizer: Synthesizer, notes: str, instrument: str) -> list[Note]:
    """The notes with their expected times."""
    frontend = synthesizer.frontend
    assert isinstance(frontend, TimelineFrontEnd)
    segments = frontend.timeline("music", f"{instrument}, {TEMPO_BPM} bpm: {notes}").segments
    ends_s = list(accumulate(segment.duration_s for segment in segments))
    return [
        Note(pitch=int(segment.token.removeprefix("note:")), start_s=end_s - segment.duration_s, end_s=end_s)
        for segment, end_s in zip(segments, ends_s, strict=True)
        if segment.token.startswith("note:")
    ]
