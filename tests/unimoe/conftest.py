"""Fixtures of the torch model's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unimoe.checkpoint import load_model
from unimoe.data.corpus import Corpus, write_audio, write_index
from unimoe.model import UniMoE


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny models gain nothing from more threads, and pytest's processes already use every core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reference_model(reference_checkpoint: Path) -> UniMoE:
    """The reference vectors' model; tests must not change its parameters."""
    return load_model(reference_checkpoint)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Sines of several pitches, as speech and as music."""
    items = []
    for source, domain in (("rms", "speech"), ("flute", "music")):
        clips = [0.2 * np.sin(2 * np.pi * f * np.arange(12000) / 16000) for f in (200, 300, 400, 500)]
        for offset, clip in zip(write_audio(tmp_path / f"{source}.npy", clips), clips, strict=True):
            place = {"source": source, "split": "train", "offset": offset, "length": len(clip)}
            items.append({"domain": domain, "kind": "digits", "text": "one", **place})
    write_index(tmp_path, items, sample_rate_hz=16000, licences={"rms": "none", "flute": "none"}, seed=0)
    return Corpus.open(tmp_path)
