"""Training of the token model: examples, batches, a tiny run that learns, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unimoe.tiny_training import config, make_examples, training
from unimoe.config import preset
from unimoe.data.corpus import Item
from unimoe.data.melodies import Note
from unimoe.loss import IGNORED
from unimoe.training.batches import PLACEHOLDER, collate, epoch_batches
from unimoe.training.examples import make_example, spoken
from unimoe.training.letter_rules import learn_rules
from unimoe.training.trainer import Trainer, evaluate
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.frontend.lexicon import Lexicon
from unimoe_runtime.frontend.timeline import Segment, Timeline

NO_AUDIO = np.zeros(0, dtype=np.int16)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_batches_hold_every_example_once_and_like_lengths_together() -> None:
    lengths = np.random.default_rng(1).integers(10, 200, size=103).tolist()
    batches = epoch_batches(lengths, 12, 0, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(103))
    spread = [np.ptp(np.asarray(lengths)[batch]) for batch in batches]
    assert np.mean(spread) < 40
    again = epoch_batches(lengths, 12, 0, 0)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))
    assert not all(
        len(a) == len(b) and (a == b).all() for a, b in zip(batches, epoch_batches(lengths, 12, 0, 1), strict=True)
    )


def test_batches_mix_domains_and_still_hold_like_lengths() -> None:
    rng = np.random.default_rng(2)
    domains = np.where(rng.random(1200) < 0.5, "speech", "music")
    lengths = rng.integers(50, 150, size=1200) + 300 * (domains == "music")
    batches = epoch_batches(lengths.tolist(), 12, 0, 0, domains=domains.tolist())
    assert sorted(np.concatenate(batches).tolist()) == list(range(1200))
    for batch in batches:
        assert 3 <= (domains[batch] == "music").sum() <= 9
        for domain in ("speech", "music"):
            assert np.ptp(lengths[batch][domains[batch] == domain]) < 20


def test_a_batch_lines_up_prompt_audio_and_guide() -> None:
    examples = make_examples(3)
    batch = collate(examples, config(), token_noise=0.0, text_drop=0.0, rng=np.random.default_rng(0))
    assert batch.ids_BT.shape == (3, 5 + 13)
    assert (batch.ids_BT[:, 5:] == PLACEHOLDER).all()
    assert batch.positions_BT[0, 4:8].tolist() == [1, 2, 3, 4]
    first = examples[0].rows_RK
    assert batch.inputs_MK[:13].tolist() == first[:-1].tolist()
    labels_MK = batch.labels_MK[:13].numpy()
    known = labels_MK != IGNORED
    assert (labels_MK[known] == first[1:][known]).all()
    assert not known[0, 1] and known[:13, 0].all()  # codebook 1 is late by one row; codebook 0 ends with EOS
    rows, queries, keys = batch.guide
    assert rows[:12].tolist() == [0] * 12
    assert queries[:12].tolist() == list(range(5, 17))
    assert keys[:12].tolist() == [1] * 4 + [2] * 4 + [3] * 4


def test_a_dropped_text_leaves_voice_and_separator_unguided() -> None:
    batch = collate(make_examples(2), config(), token_noise=0.0, text_drop=1.0, rng=np.random.default_rng(0))
    assert batch.ids_BT[:, :3].tolist() == [[2, 1, PLACEHOLDER]] * 2
    assert all(len(part) == 0 for part in batch.guide)


def test_token_noise_changes_inputs_and_no_label() -> None:
    plain = collate(make_examples(8), config(), token_noise=0.0, text_drop=0.0, rng=np.random.default_rng(0))
    noisy = collate(make_examples(8), config(), token_noise=0.5, text_drop=0.0, rng=np.random.default_rng(0))
    assert (plain.labels_MK == noisy.labels_MK).all()
    changed = float((plain.inputs_MK != noisy.inputs_MK).float().mean())
    assert 0.2 < changed < 0.5
    special = plain.inputs_MK >= config().codebook_size
    assert (plain.inputs_MK[special] == noisy.inputs_MK[special]).all()


def test_frames_know_their_phoneme_even_where_the_lexicon_differs() -> None:
    item = Item(
        source="ann", domain="speech", kind="digits", text="cat", split="train", offset=0, length=0, voice="ann",
        phonemes=(("pau", 0.04), ("k", 0.08), ("ah", 0.12), ("t", 0.16), ("pau", 0.2)), audio_L=NO_AUDIO,
    )  # fmt: skip
    names = ["pau", "k", "ae", "t", "pau"]
    segments = tuple(Segment(token=f"phoneme:{name}", duration_s=0.05) for name in names)
    timeline = Timeline(source="voice:ann", segments=segments, caption="cat")
    assert spoken(item, timeline, 11, 50.0).tolist() == [1, 1, 2, 2, -1, -1, 4, 4, 5, 5, 5]


class _NotesOnly:
    """As much of a front end as a melody's example needs."""

    frame_rate_hz = 50.0

    def timeline(self, task: str, text: str, voice: str) -> Timeline:
        assert (task, text, voice) == ("music", "flute, 120 bpm: C4 D4", "flute")
        tokens = ["phoneme:pau", "note:60", "note:62", "phoneme:pau"]
        segments = tuple(Segment(token=token, duration_s=0.1) for token in tokens)
        return Timeline(source="instrument:flute", segments=segments, caption=text)

    def row(self, timeline: Timeline) -> tuple[list[int], list[float]]:
        return list(range(len(timeline.segments) + 2)), [0.0, 3.0, 4.0, 5.0, 6.0, 1.0]


def test_notes_sound_until_the_next() -> None:
    notes = (Note(pitch=60, start_s=0.1, end_s=0.55), Note(pitch=62, start_s=0.6, end_s=1.05))
    item = Item(
        source="flute", domain="music", kind="melody", text="C4 D4", split="train", offset=0, length=0,
        instrument="flute", tempo_bpm=120, notes=notes, audio_L=NO_AUDIO,
    )  # fmt: skip
    codes_TK = np.zeros((70, 2), dtype=np.int64)
    example = make_example(item, codes_TK, _NotesOnly(), config())  # type: ignore[arg-type]
    assert example.spoken_T.tolist() == [1] * 5 + [2] * 25 + [3] * 25 + [4] * 15
    assert example.length == 6 + 70 + 1


def test_rules_are_learnt_from_words() -> None:
    stems = ["ba", "da", "ga", "ka", "la", "ma", "na", "pa"]
    words = {stem + end: tuple(stem + end.replace("e", "")) for stem in stems for end in ("te", "ne", "ts", "ns", "t")}
    words |= {stem + "sh": (*stem, "sh") for stem in stems}
    lexicon = Lexicon(words={}, rules=learn_rules(words))
    assert lexicon.sound_out("bate") == ("b", "a", "t")
    assert lexicon.sound_out("lash") == ("l", "a", "sh")
    assert lexicon.sound_out("lats") == ("l", "a", "t", "s")


def test_a_tiny_run_learns_and_logs(tmp_path: Path) -> None:
    trainer = Trainer(config(), training(), make_examples(64))
    before = evaluate(trainer, make_examples(16))
    trainer.run(tmp_path)
    after = evaluate(trainer, make_examples(16))
    assert after["loss_speech"] < 0.6 * before["loss_speech"]
    assert after["loss_music"] < 0.6 * before["loss_music"]
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [10, 20, 30, 40, 50, 60]
    assert records[-1]["guide"] < records[0]["guide"]
    assert 0 <= records[-1]["null_share"] <= 1 and records[-1]["tokens_per_s"] > 0


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Trainer(config(), training(num_steps=12), make_examples(40))
    whole.run(tmp_path / "whole")
    stopped = Trainer(config(), training(num_steps=12), make_examples(40))
    stopped.run(tmp_path / "stopped", stop_after=5)
    assert stopped.step == 5
    resumed = Trainer(config(), training(num_steps=12, seed=0), make_examples(40))
    resumed.run(tmp_path / "stopped")
    assert resumed.step == 12
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, msg=name)


def test_a_save_of_another_model_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(config(), training(), make_examples(8))
    trainer.save(tmp_path / "training.pt")
    other = Trainer(preset("tiny", text_vocab_size=13), training(), make_examples(8))
    with pytest.raises(CheckpointError, match="another model configuration"):
        other.resume(tmp_path / "training.pt")
    (tmp_path / "training.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="remove it and start again"):
        trainer.resume(tmp_path / "training.pt")


def test_configurations_name_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="token_noise is 3"):
        training(token_noise=3.0)
    with pytest.raises(ConfigError, match="nothing to train on"):
        Trainer(config(), training(), [])


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [training(num_steps=100).learning_rate_at(step) for step in range(101)]
    assert rates[0] < rates[4] == pytest.approx(5e-3)
    assert rates[100] == pytest.approx(0.05 * 5e-3)
