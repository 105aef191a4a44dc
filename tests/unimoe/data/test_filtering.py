"""From a corpus to tokens: metrics, filtering, copies, balance, joining, the page, and the cache of codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from unimoe.cli.data import data
from unimoe.data import codes
from unimoe.data.corpus import Corpus, CorpusError, hash_clip, write_audio, write_index
from unimoe.data.filtering import FilterRecipe, judge_clips, write_filtered
from unimoe.data.joining import join_corpora
from unimoe.data.metrics import (
    METRICS,
    Extras,
    fingerprint,
    measure,
    measure_corpus,
    near_copies,
    pack_fingerprint,
    read_metrics,
    unpack_fingerprint,
)
from unimoe.data.reporting import describe_corpus, write_report
from unimoe.data.sources import SOURCES, get_source
from unimoe_runtime.errors import CheckpointError, ConfigError, OutputError

RATE_HZ = 16000


def tone(hz: float, length_s: float = 1.0, level: float = 0.1) -> np.ndarray:
    """A tone with its second octave that swells and fades over faint noise, so that frames differ in level."""
    time_L = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    waves_L = np.sin(2 * np.pi * hz * time_L) + np.sin(8 * np.pi * hz * time_L)
    noise_L = 0.003 * np.random.default_rng(0).standard_normal(len(time_L))
    return level * (0.5 * waves_L * np.sin(np.pi * time_L / length_s) ** 2 + noise_L)


def spoken(text: str, hz: float, *, split: str = "train", voice: str = "ann", **changes: object) -> dict[str, object]:
    phonemes = [["pau", 0.1], ["ae", 0.5], ["t", 0.9], ["pau", 1.0]]
    fields = {"domain": "speech", "kind": "sentences", "text": text, "split": split, "voice": voice}
    return {**fields, "phonemes": phonemes, "pcm": tone(hz), **changes}


def write_corpus(folder: Path, clips: list[dict[str, object]], source: str = "speech", known: str = "flite") -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    audio = [np.asarray(clip.pop("pcm")) for clip in clips]
    offsets = write_audio(folder / f"{source}.npy", audio)
    lines = [
        {**clip, "source": source, "offset": offset, "length": len(pcm_L)}
        for clip, offset, pcm_L in zip(clips, offsets, audio, strict=True)
    ]
    details = {source: get_source(known).to_dict()}
    write_index(folder, lines, sample_rate_hz=RATE_HZ, licences={source: "mine"}, seed=0, details=details)
    return Corpus.open(folder)


def test_metrics_of_a_tone() -> None:
    found = measure(0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ), RATE_HZ)
    assert found["duration_s"] == 1.0
    assert found["level_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    assert found["bandwidth_hz"] == pytest.approx(1000, abs=5)
    assert found["silence_share"] == 0 and found["clipped_share"] == 0 and found["snr_db"] < 1


def test_metrics_tell_noise_silence_and_clipping() -> None:
    rng = np.random.default_rng(0)
    speech = np.concatenate([0.2 * rng.standard_normal(8000), 0.002 * rng.standard_normal(8000)])
    found = measure(speech, RATE_HZ)
    assert found["snr_db"] == pytest.approx(40, abs=4)
    assert measure(np.concatenate([tone(300), np.zeros(RATE_HZ)]), RATE_HZ)["silence_share"] > 0.5
    assert measure(np.clip(3 * tone(300, level=1.0), -1, 1), RATE_HZ)["clipped_share"] > 0.1
    for shortest in (np.zeros(5), np.zeros(RATE_HZ)):
        assert all(np.isfinite(value) for value in measure(shortest, RATE_HZ).values())


def test_punctuation_and_capitals_are_no_word_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimoe.data.metrics._recognizer", lambda: lambda pcm_L: "it's late he said")
    corpus = write_corpus(tmp_path, [spoken("It's late, he said.", 300), spoken("It's late? She said!", 400)])
    found = measure_corpus(corpus, tmp_path / "metrics.jsonl", Extras(wer=True), num_workers=1)
    assert [metrics["wer"] for metrics in found] == [0.0, 0.25]


def test_fingerprints_know_a_louder_copy_and_no_other_tone() -> None:
    one, louder, other = (fingerprint(pcm_L, RATE_HZ) for pcm_L in (tone(400), 2 * tone(400), tone(600)))
    assert one @ louder > 0.999 > one @ other
    packed = unpack_fingerprint(pack_fingerprint(one))
    assert packed @ one > 0.9999
    assert near_copies([one, other, louder], [16000, 16000, 16010], at_least=0.999) == [-1, -1, 0]
    assert near_copies([one, louder], [16000, 17000], at_least=0.999) == [-1, -1]


def test_clips_are_left_out_for_a_reason(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(RATE_HZ)
    corpus = write_corpus(
        tmp_path / "all",
        [
            spoken("one", 300),
            spoken("one", 350),  # the same text again
            spoken("two", 400),
            spoken("three", 400),  # the same sound
            spoken("four", 0, pcm=1.5 * tone(400)),  # a louder copy
            spoken("five", 500, voice="bob"),
            spoken("six", 0, pcm=np.zeros(RATE_HZ)),
            spoken("seven", 0, pcm=0.1 * noise),  # constant level
            spoken("eight", 600, split="test"),
            spoken("eight", 650, voice="bob"),  # held out: another voice has this text in the test split
        ],
    )
    metrics = measure_corpus(corpus, tmp_path / "metrics.jsonl", num_workers=1)
    verdict = judge_clips(corpus, metrics, FilterRecipe())
    assert [reason.partition(": ")[2] for reason in verdict.reasons] == [
        "", "same text as another clip of this voice or instrument", "", "same sound as another clip",
        "nearly the same sound as another clip", "", "level_db below -45", "snr_db below 15", "", "text is held out",
    ]  # fmt: skip
    assert sum(verdict.counts().values()) == 6
    kept = write_filtered(corpus, tmp_path / "all", tmp_path / "kept", metrics, verdict, FilterRecipe())
    assert [item.text for item in kept] == ["one", "two", "five", "eight"]
    assert kept[1].clip == hash_clip(corpus[2].samples()) and kept[1].metrics["duration_s"] == 1.0
    assert (kept[1].samples() == corpus[2].samples()).all() and kept.details == corpus.details
    facts = json.loads((tmp_path / "kept" / "filtered.json").read_text())
    assert facts["clips"] == 10 and facts["kept"] == 4


def test_measures_are_kept_and_a_broken_line_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus(tmp_path, [spoken("one", 300), spoken("two", 400)])
    path = tmp_path / "metrics.jsonl"
    first = measure_corpus(corpus, path, num_workers=1)
    assert first[0]["sounds_per_s"] == 2.0
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n" + lines[1][:40])
    assert measure_corpus(corpus, path, num_workers=1) == first
    monkeypatch.setattr("unimoe.data.metrics.measure", lambda *_: pytest.fail("measured again"))
    assert measure_corpus(corpus, path, num_workers=1) == first


def test_balance_keeps_as_much_of_each_domain(tmp_path: Path) -> None:
    notes = [{"pitch": 60, "start_s": 0.1, "end_s": 0.9}]
    music = {
        "domain": "music", "kind": "melody", "instrument": "flute", "tempo_bpm": 60, "notes": notes, "phonemes": [],
    }  # fmt: skip
    clips = [spoken(f"text {index}", 300 + 40 * index) for index in range(6)]
    clips += [
        spoken(f"C{index}", 200 + 31 * index, **music, voice="", split="valid" if index == 2 else "train")
        for index in range(3)
    ]
    corpus = write_corpus(tmp_path, clips)
    metrics = measure_corpus(corpus, tmp_path / "metrics.jsonl", num_workers=1)
    verdict = judge_clips(corpus, metrics, FilterRecipe(balance=True, near_copy=1.0))
    kept = [item for item, reason in zip(corpus, verdict.reasons, strict=True) if not reason]
    assert [item.domain for item in kept].count("speech") == 2 and len(kept) == 5
    assert judge_clips(corpus, metrics, FilterRecipe(balance=True, near_copy=1.0)) == verdict


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"speach": {}}, "the field 'speach'"),
        ({"speech": {"loudness": [0, 1]}}, "speech limits 'loudness'; it can be duration_s"),
        ({"music": {"duration_s": [3, 1]}}, r"music\.duration_s is \[3, 1\]"),
        ({"near_copy": 0}, "near_copy is 0"),
    ],
)
def test_filter_recipes_are_validated(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FilterRecipe.from_section(section)


def test_corpora_are_joined(tmp_path: Path) -> None:
    first = write_corpus(tmp_path / "first", [spoken("one", 300)])
    second = write_corpus(tmp_path / "second", [spoken("two", 400, split="test")], known="asterisk")
    joined = join_corpora([tmp_path / "first", tmp_path / "second"], tmp_path / "both")
    assert [(item.source, item.text, item.split) for item in joined] == [
        ("speech", "one", "train"),
        ("speech-2", "two", "test"),
    ]
    assert (joined[1].samples() == second[0].samples()).all() and (joined[0].samples() == first[0].samples()).all()
    assert joined.details["speech-2"]["may_ship"] is False
    with pytest.raises(OutputError, match="is one of the corpora"):
        join_corpora([tmp_path / "first"], tmp_path / "first")
    header, *lines = (tmp_path / "second" / "index.jsonl").read_text().splitlines()
    other_rate = json.loads(header) | {"sample_rate_hz": 24000}
    (tmp_path / "second" / "index.jsonl").write_text("\n".join([json.dumps(other_rate), *lines]) + "\n")
    with pytest.raises(CorpusError, match="16000 and 24000 Hz"):
        join_corpora([tmp_path / "first", tmp_path / "second"], tmp_path / "third")


def test_the_page_says_what_is_there(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [spoken("one two", 300), spoken("two three", 400, split="test")])
    facts = describe_corpus(corpus, tmp_path / "corpus")
    assert facts["domains"]["speech"] == {
        "clips": 2, "hours": 0.001, "train_clips": 1, "valid_clips": 0, "test_clips": 1,
    }  # fmt: skip
    assert facts["words"] == {"train": 2, "valid": 0, "test": 2} and facts["words_only_in_test"] == 1
    page = tmp_path / "page.html"
    write_report(corpus, tmp_path / "corpus", page)
    text = page.read_text()
    assert "BSD-style" in text and "Histogram: duration, s" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "") and "<script" not in text
    assert json.loads(page.with_suffix(".json").read_text())["clips"] == 2


class OneCodec:
    """A codec whose codes give the loudness of each hop of 320 samples."""

    sample_rate_hz, hop_samples, num_codebooks, codebook_size = RATE_HZ, 320, 2, 256

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, pcm_BL: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pcm_BL)
        hops = torch.nn.functional.pad(pcm_BL, (0, -pcm_BL.shape[1] % 320)).unflatten(1, (-1, 320))
        loud_BT = (hops.abs().amax(2) * 255).round().long()
        return torch.stack([loud_BT, 255 - loud_BT], dim=1)

    def decode(self, codes_BKT: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def test_codes_are_kept_by_codec_and_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus(tmp_path / "corpus", [spoken("one", 300), spoken("two", 0, pcm=tone(400, 0.5))])
    codec = OneCodec()
    monkeypatch.setattr(codes, "load_codec", lambda folder: codec)
    codec_dir = tmp_path / "codec"
    codec_dir.mkdir()
    (codec_dir / "config.json").write_text("{}")
    made = codes.cached_codes(corpus, codec_dir, tmp_path / "cache")
    assert [codes_TK.shape for codes_TK in made] == [(50, 2), (25, 2)] and codec.encoded == 2
    assert (made[1] == codes.encode_clips([corpus[1]], codec)[0]).all()
    codec.encoded = 0
    larger = write_corpus(tmp_path / "larger", [spoken("two", 0, pcm=tone(400, 0.5)), spoken("new", 500)])
    again = codes.cached_codes(larger, codec_dir, tmp_path / "cache")
    assert codec.encoded == 1 and (again[0] == made[1]).all()
    (codec_dir / "config.json").write_text('{"other": 1}')
    codes.cached_codes(corpus, codec_dir, tmp_path / "cache")
    assert codec.encoded == 3 and len(list((tmp_path / "cache").iterdir())) == 2
    next((tmp_path / "cache").rglob("*.npz")).write_bytes(b"no")
    with pytest.raises(CheckpointError, match="remove it and encode again"):
        for folder in (tmp_path / "cache").iterdir():
            codes.read_cache(folder)


def test_the_command_writes_nothing_into_its_corpus(tmp_path: Path) -> None:
    """Measures lie beside the result, and those of the corpus itself are used."""
    corpus = write_corpus(tmp_path / "all", [spoken("one", 300), spoken("two", 400)])
    before = {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()}
    words = ["filter", str(tmp_path / "all"), str(tmp_path / "kept"), "--workers", "1"]
    done = CliRunner().invoke(data, words)
    assert done.exit_code == 0, done.exception
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()}
    measured = read_metrics(tmp_path / "kept" / METRICS)
    assert len(measured) == len(corpus)
    (tmp_path / "kept" / METRICS).rename(tmp_path / "all" / METRICS)
    again = measure_corpus(corpus, tmp_path / METRICS, earlier=tmp_path / "all" / METRICS, num_workers=1)
    assert again == list(measured.values()) and not (tmp_path / METRICS).exists()
    done = CliRunner().invoke(data, [*words[:2], str(tmp_path / "all")])
    assert "is the corpus itself" in str(done.exception)


def test_every_source_says_what_may_be_shipped() -> None:
    for source in SOURCES.values():
        assert source.licence and source.origin and source.reason
    with pytest.raises(ConfigError, match="there is no source 'radio'; it can be flite, kokoro"):
        get_source("radio")


def test_commands_refuse_in_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[data]\nsamples = 3\n")
    for arguments, message in (
        (["render", str(tmp_path / "none.toml"), str(tmp_path / "out")], "none.toml: cannot be read"),
        (["render", str(recipe), str(tmp_path / "out")], "CorpusRecipe does not know the field 'samples'"),
        (["filter", str(tmp_path), str(tmp_path / "out"), "--recipe", str(recipe)], r"the section [filter] is missing"),
        (["report", str(tmp_path)], "`unimoe data render`, `import` and `gather` make a corpus"),
        (["import", str(tmp_path), str(tmp_path / "out"), "--no-align"], "has no recordings with texts"),
    ):
        done = CliRunner().invoke(data, arguments)
        assert done.exit_code == 1 and message in str(done.exception) and "\n" not in str(done.exception)


def test_extras_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OutputError, match="speechmos is not installed"):
        Extras(dnsmos=True)
