"""A cache of the clips' codec tokens, keyed by the codec's hash and the clip's hash.

    FOLDER/CODEC/NAME.npz …   codes [sum of T, K] int16, lengths [N], clips [N]; CODEC, NAME and clips are hashes

A second corpus with the same clips needs no encoding. Each codec has its own folder. An interrupted run resumes with
the missing clips.

Shape suffixes: B rows, T frames, K codebooks, L samples, N clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from unimoe.bars import tracked
from unimoe.codec.base import Codec, load_codec
from unimoe.data.corpus import Corpus, Item, hash_clip
from unimoe.stopping import stop_between_steps
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.atomic import atomic_file
from unimoe_runtime.files.text import reason_of

_BATCH = 16
_SHARD = 2048


def hash_codec(folder: Path) -> str:
    """Name of a codec: the first 12 digits of the SHA-256 of its configuration and weights."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        path = folder / name
        if path.exists():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def encode_clips(items: Sequence[Item], codec: Codec, stop: Callable[[], bool] = lambda: False) -> list[np.ndarray]:
    """Codes [T, K] int16 of clips, in their order. Clips of similar lengths are encoded together.

    `stop` is asked between two batches; the clips after that are left out. They are the last ones where the clips are
    sorted by length.
    """
    order = sorted(range(len(items)), key=lambda index: items[index].length)
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode():
        batches = range(0, len(order), _BATCH)
        for start in tracked(batches, "codec tokens", total=len(batches)):
            if stop():
                break
            chosen = order[start : start + _BATCH]
            # Silence pads each clip, as the codec itself would pad it.
            pcm_BL = torch.zeros(len(chosen), items[chosen[-1]].length)
            for row, index in enumerate(chosen):
                pcm_BL[row, : items[index].length] = torch.from_numpy(items[index].pcm())
            codes_BKT = codec.encode(pcm_BL).numpy().astype(np.int16)
            for row, index in enumerate(chosen):
                found[index] = codes_BKT[row, :, : -(-items[index].length // codec.hop_samples)].T
    return [found[index] for index in sorted(found)]


def read_cache(folder: Path) -> dict[str, np.ndarray]:
    """Codes [T, K] by clip, from all files of one codec's folder."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npz")):
        if "." in path.stem:  # incomplete: another process writes it, or was killed
            continue
        try:
            with np.load(path, allow_pickle=False) as file:
                codes, lengths_N, clips = file["codes"], file["lengths"], file["clips"]
        except Exception as error:  # numpy parses headers as Python: a damaged one raises anything
            raise CheckpointError(f"{path}: cannot be read ({reason_of(error)}): remove it and encode again") from None
        found.update(zip(map(str, clips), np.split(codes, np.cumsum(lengths_N)[:-1]), strict=True))
    return found


def write_shard(folder: Path, clips: Sequence[str], codes: Sequence[np.ndarray]) -> None:
    """Write a file whose name is a hash of its clips, so that several processes can add files at once."""
    lengths_N = np.array([len(codes_TK) for codes_TK in codes])
    with atomic_file(folder / f"{hashlib.sha256(' '.join(clips).encode()).hexdigest()[:16]}.npz") as partial:
        np.savez(partial, codes=np.concatenate(codes), lengths=lengths_N, clips=np.array(clips))


def cached_codes(corpus: Corpus, codec_dir: Path, folder: Path) -> list[np.ndarray]:
    """Codes [T, K] int16 of every clip, in the corpus's order. Encodes the clips that `folder` lacks and adds them.

    Raises CheckpointError where the codec or the cache cannot be read, or where the sample rates differ.
    """
    codec = load_codec(codec_dir)
    if codec.sample_rate_hz != corpus.sample_rate_hz:
        raise CheckpointError(
            f"{codec_dir} is for {codec.sample_rate_hz} Hz, the corpus of {corpus.sample_rate_hz}: render that anew"
        )
    home = folder / hash_codec(codec_dir)
    home.mkdir(parents=True, exist_ok=True)
    known = read_cache(home)
    names = [item.clip or hash_clip(item.samples()) for item in corpus]
    missing = list({name: item for name, item in zip(names, corpus, strict=True) if name not in known}.items())
    # Short clips first: the clips of a file then have similar lengths and need little padding.
    missing.sort(key=lambda pair: pair[1].length)
    with stop_between_steps() as stop:
        for start in range(0, len(missing), _SHARD):
            part = missing[start : start + _SHARD]
            codes = encode_clips([item for _, item in part], codec, lambda: bool(stop))
            clips = [name for name, _ in part[: len(codes)]]
            if codes:
                write_shard(home, clips, codes)
            known.update(zip(clips, codes, strict=True))
            stop.end(f"{len(known):,} clips are encoded in {home}; the same command goes on there")
    return [known[name] for name in names]
