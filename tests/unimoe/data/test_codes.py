"""A stopped encoding keeps the clips that it has encoded, and the next one goes on there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.robustness.corpora import RATE_HZ, write_corpora
from unimoe.data import codes
from unimoe.data.corpus import Corpus
from unimoe.stopping import Stopped
from unimoe_runtime.files.atomic import PartialFile


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


def test_incomplete_files_do_not_count_and_no_process_replaces_another_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpora(tmp_path / "corpus", tmp_path / "spoken")
    corpus, codec = Corpus.open(tmp_path / "corpus"), StoppedCodec(0)
    monkeypatch.setattr(codes, "load_codec", lambda folder: codec)
    home = tmp_path / "cache" / codes.hash_codec(tmp_path)
    home.mkdir(parents=True)
    codes.cached_codes(corpus, tmp_path, tmp_path / "cache")
    (whole,) = home.iterdir()
    left = PartialFile(whole)
    assert len(codes.read_cache(home)) == len(corpus) == codec.encoded
    left.drop()
    for _ in range(2):  # two processes that both found the clips missing
        codes.write_shard(home, ["a", "b"], [np.zeros((1, 2), np.int16)] * 2)
    codes.write_shard(home, ["c"], [np.zeros((1, 2), np.int16)])
    assert len(codes.read_cache(home)) == len(corpus) + 3 and len(list(home.iterdir())) == 3
