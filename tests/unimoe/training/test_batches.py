"""Batches: similar lengths together, mixed domains, noise and dropped texts."""

from __future__ import annotations

import numpy as np

from tests.unimoe.training.tiny_training import config, make_examples
from unimoe.loss import IGNORED
from unimoe.training.batches import PLACEHOLDER, collate, epoch_batches


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
    assert not known[0, 1] and known[:13, 0].all()  # codebook 1 lags by one row; codebook 0 ends with EOS
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
