"""A stopped encoding keeps the clips that it has encoded, and the next one goes on there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.robustness.corpora import RATE_HZ, write_corpora
from unimoe.data import codes
from unimoe.data.corpus import Corpus
from unimoe.stopping import Stopped


class StoppedCodec:
    """A codec of zeros, during whose call a signal arrives."""

    sample_rate_hz, hop_samples, num_codebooks, codebook_size = RATE_HZ, 320, 2, 256

    def __init__(self, number: int) -> None:
        self.number, self.encoded = number, 0

    def encode(self, pcm_BL: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pcm_BL)
        if self.number:
            os.kill(os.getpid(), self.number)
        return torch.zeros(len(pcm_BL), 2, -(-pcm_BL.shape[1] // 320), dtype=torch.long)

    def decode(self, codes_BKT: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_encoding_keeps_its_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    write_corpora(tmp_path / "corpus", tmp_path / "spoken")
    corpus, codec = Corpus.open(tmp_path / "corpus"), StoppedCodec(number)
    monkeypatch.setattr(codes, "load_codec", lambda folder: codec)
    monkeypatch.setattr(codes, "_BATCH", 1)
    with pytest.raises(Stopped, match=r"^1 clips are encoded in .*goes on there"):
        codes.cached_codes(corpus, tmp_path, tmp_path / "cache")
    codec.number = 0
    assert len(codes.cached_codes(corpus, tmp_path, tmp_path / "cache")) == len(corpus) == codec.encoded


def test_a_killed_process_s_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpora(tmp_path / "corpus", tmp_path / "spoken")
    monkeypatch.setattr(codes, "load_codec", lambda folder: StoppedCodec(0))
    home = tmp_path / "cache" / codes.hash_codec(tmp_path)
    home.mkdir(parents=True)
    left, running = home / "0000.999999999.partial.npz", home / f"0000.{os.getppid()}.partial.npz"
    left.touch()
    running.touch()
    codes.cached_codes(Corpus.open(tmp_path / "corpus"), tmp_path, tmp_path / "cache")
    assert not left.exists() and running.exists()
