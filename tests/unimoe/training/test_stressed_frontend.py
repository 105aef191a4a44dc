"""A front end with stress, made of tiny parts: writing it, and its timelines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from unimoe.config import preset
from unimoe.data.corpus import Corpus, Item
from unimoe.training.durations import DurationRecipe
from unimoe.training.examples import make_example
from unimoe.training.frontend import FrontEndRecipe, recorded_timeline, write_frontend
from unimoe.training.frontend_parts import make_durations
from unimoe.training.letter_to_sound import LetterToSoundRecipe, train_letter_to_sound
from unimoe.training.sequence_network import write_network
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.letter_to_sound import FILE
from unimoe_runtime.frontend.options import SpeechOptions
from unimoe_runtime.frontend.packed_lexicon import write_lexicon
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

WORDS = {
    word: tuple(sounds.split())
    for word, sounds in {
        "is": "ih1 z", "it": "ih1 t", "far": "f aa1 r", "go": "g ow1", "home": "hh ow1 m", "a": "ey1",
        "plan": "p l ae1 n",
        "tom": "t aa1 m", "the": "dh ah1", "apple": "ae1 p ah0 l", "forty": "f ao1 r t iy0", "two": "t uw1",
    }.items()
}  # fmt: skip


Split = Literal["train", "test"]


def clip(text: str, phonemes: str, numbers: list[int], voice: str, split: Split) -> Item:
    sounds = phonemes.split()
    ends = np.cumsum([0.1] * len(sounds)).round(4).tolist()
    return Item(
        source="kokoro", domain="speech", kind="lines", text=text, split=split, offset=0, length=120000, voice=voice,
        phonemes=tuple(zip(sounds, ends, strict=True)), word_numbers=tuple(numbers), audio_L=np.zeros(24000, np.int16),
    )  # fmt: skip


def corpus() -> Corpus:
    items = []
    splits: tuple[Split, ...] = ("train", "test")
    for voice in ("emma", "puck"):
        for split in splits:
            items.append(clip("Is it far?", "pau ih0 z ih0 t f aa1 r ?", [-1, 0, 0, 1, 1, 2, 2, 2, -1], voice, split))
            items.append(clip("Go home.", "pau g ow1 hh ow1 m .", [-1, 0, 0, 1, 1, 1, -1], voice, split))
    return Corpus(sample_rate_hz=24000, licences={}, items=tuple(items))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("stressed")
    parts = root / "parts"
    parts.mkdir()
    write_lexicon(parts / "lexicon.bin", WORDS)
    model = train_letter_to_sound(WORDS, LetterToSoundRecipe(channels=8, blocks=1, epochs=2, batch_words=4))
    write_network(model.network, parts / FILE)
    (parts / "letter_to_sound.json").write_text(json.dumps({"section": model.settings().to_dict()}))
    make_durations(parts, corpus(), DurationRecipe(channels=8, taps=3, dilations=(1,), epochs=2, batch_clips=2))
    write_frontend(root / "frontend", corpus(), FrontEndRecipe(parts=str(parts)), frame_rate_hz=50.0)
    yield root / "frontend"


@pytest.fixture(scope="module")
def frontend(folder: Path) -> TimelineFrontEnd:
    return TimelineFrontEnd.read(folder, json.loads((folder / "frontend.json").read_text()))


def test_a_voice_keeps_the_pace_that_its_recipe_sets(folder: Path, tmp_path: Path) -> None:
    def lengths_s(paces: dict[str, float], name: str) -> list[float]:
        recipe = FrontEndRecipe(parts=str(folder.parent / "parts"), paces=paces)
        made = write_frontend(tmp_path / name, corpus(), recipe, frame_rate_hz=50.0)
        return [made.unlimited_timeline("speech", "Go home.", voice).duration_s for voice in ("emma", "puck")]

    usual, slow = lengths_s({}, "usual"), lengths_s({"puck": 0.8}, "slow")
    assert slow == pytest.approx([usual[0], usual[1] / 0.8])
    for bad in (0.0, -1.0, 0.49, 2.01, float("nan"), "slow"):
        with pytest.raises(ConfigError, match=r"^[^\n]*paces[^\n]*$"):
            FrontEndRecipe.from_dict({"paces": {"puck": bad}})
    with pytest.raises(ConfigError, match=r"paces: 'tom' has .*; the voices with predicted durations are emma, puck$"):
        lengths_s({"tom": 0.9}, "bad")
    assert not (tmp_path / "bad").exists()
    unstressed = replace(corpus(), items=tuple(replace(item, word_numbers=()) for item in corpus()))
    with pytest.raises(ConfigError, match=r"paces: 'puck' .*; no voice has any$"):
        write_frontend(tmp_path / "rules", unstressed, FrontEndRecipe(paces={"puck": 0.8}), frame_rate_hz=50.0)


def said(frontend: TimelineFrontEnd, text: str, options: SpeechOptions | None = None) -> str:
    made = frontend.timeline("speech", text, "emma", options or SpeechOptions())
    return " ".join(segment.token.removeprefix("phoneme:") for segment in made.segments)


def test_stress_weak_forms_and_marks_are_kept(frontend: TimelineFrontEnd) -> None:
    assert said(frontend, "Is it far?") == "pau ih0 z ih0 t f aa1 r ?"
    assert said(frontend, "Go, Tom! The apple") == "pau g ow1 , t aa1 m ! dh iy0 ae1 p ah0 l ."
    assert said(frontend, "Plan A (42)") == "pau p l ae1 n ey1 , f ao1 r t iy0 t uw1 ."
    assert said(frontend, "Go home\n\nGo") == "pau g ow1 hh ow1 m . g ow1 ."


def test_other_words_and_pronunciations_of_a_request(frontend: TimelineFrontEnd) -> None:
    assert said(frontend, "Tlomog.") != "pau ." and said(frontend, "Tlomog.").count("1") == 1
    own = SpeechOptions(lexicon={"tom": "T AA0 M", "is": "IH1 S"})
    assert said(frontend, "Is Tom far", own) == "pau ih1 s t aa0 m f aa1 r ."


def test_speed_scales_durations(frontend: TimelineFrontEnd) -> None:
    usual = frontend.timeline("speech", "Is it far?", "puck")
    fast = frontend.timeline("speech", "Is it far?", "puck", SpeechOptions(speed=2.0))
    assert fast.duration_s == pytest.approx(usual.duration_s / 2, rel=0.05)
    assert usual.source == "voice:puck"


def test_the_licence_lies_beside_the_lexicon(folder: Path) -> None:
    assert "Carnegie Mellon" in (folder / "LICENCE-lexicon.txt").read_text()


def test_training_takes_the_recorded_timeline(frontend: TimelineFrontEnd) -> None:
    item = corpus()[0]
    made = recorded_timeline(item)
    assert [segment.duration_s for segment in made.segments] == pytest.approx([0.1] * 9)
    config = preset(
        "demo", text_vocab_size=len(frontend.tokens), num_codebooks=2, codebook_size=4, delay_pattern=[0, 1]
    )
    example = make_example(item, np.zeros((45, 2), np.int64), frontend, config)
    assert len(example.ids_P) == 11 and example.spoken_T[:5].tolist() == [1] * 5 and example.spoken_T[-1] == 9
