"""Parts of a front end, trained and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unimoe.data.installed import needs_dictionary
from unimoe.data.cmudict import read_dictionary
from unimoe.data.corpus import Corpus, Item
from unimoe.training import frontend_parts
from unimoe.training.durations import DurationRecipe
from unimoe.training.frontend_parts import make_durations, make_lexicon, read_section
from unimoe.training.letter_to_sound import LetterToSoundRecipe
from unimoe_runtime.frontend.duration_predictor import DurationPredictor, DurationSettings
from unimoe_runtime.frontend.letter_to_sound import LetterToSound, LetterToSoundSettings
from unimoe_runtime.frontend.packed_lexicon import PackedLexicon


def clips(count: int) -> Corpus:
    audio_L = np.zeros(1, np.int16)
    items = tuple(
        Item(
            source="kokoro", domain="speech", kind="words", text=f"go {at}", split="test" if at % 4 == 0 else "train",
            offset=0, length=1, voice=("emma", "puck")[at % 2], word_numbers=(-1, 0, 0, -1), audio_L=audio_L,
            phonemes=(("pau", 0.1), ("g", 0.2), ("ow1", 0.4 + 0.1 * (at % 2)), (".", 0.7)),
        )
        for at in range(count)
    )  # fmt: skip
    return Corpus(sample_rate_hz=24000, licences={}, items=items)


def test_a_predictor_is_written_with_its_errors(tmp_path: Path) -> None:
    recipe = DurationRecipe(channels=8, taps=3, dilations=(1,), epochs=20, batch_clips=4)
    found, means = make_durations(tmp_path, clips(16), recipe)
    assert found.num_clips == means.num_clips == 4
    predictor = DurationPredictor.read(tmp_path, DurationSettings.from_dict(read_section(tmp_path / "durations.json")))
    assert predictor.voices == ("emma", "puck")
    assert len(predictor.word_durations("puck", [("pau",), ("g", "ow1"), (".",)])) == 4
    assert json.loads((tmp_path / "durations.json").read_text())["held_out_errors"]["num_clips"] == 4


@needs_dictionary
def test_a_lexicon_is_written_with_a_model_for_other_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dict(list(read_dictionary().items())[::400])
    monkeypatch.setattr(frontend_parts, "read_dictionary", lambda: few)
    errors = make_lexicon(tmp_path, LetterToSoundRecipe(channels=8, blocks=1, epochs=1, batch_words=64))
    assert errors.num_words >= 1 and errors.phonemes > 0
    assert dict(PackedLexicon.read(tmp_path / "lexicon.bin")) == few
    assert LetterToSound.read(
        tmp_path, LetterToSoundSettings.from_dict(read_section(tmp_path / "letter_to_sound.json"))
    )("blorb")
