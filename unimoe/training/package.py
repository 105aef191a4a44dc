"""The input of a training run on another machine, in one small folder: tokens, settings, codec, an audio excerpt.

    examples.npz      token examples, packed
    package.json      format, model, stages' settings, balance, [decoder]'s settings, sample rate of the excerpt
    codec/            the codec of the tokens
    audio/NNNNN.flac  clips of the training split, to finish the codec and to train its decoder; domain, source and
                      place among the training examples in package.json

Shape suffixes: N examples, P prompt positions, R rows of delayed codes, K codebooks, T frames, L samples.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from unimoe.data.corpus import Corpus, Item
from unimoe.training.curriculum import CurriculumConfig
from unimoe.training.decoder import DecoderSettings
from unimoe.training.examples import Example
from unimoe.training.settings import TrainingConfig
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError, OutputError
from unimoe_runtime.files.atomic import staging_path
from unimoe_runtime.files.json import read_json

FORMAT = "unimoe-training-package"
_FIELDS = ("ids_P", "positions_P", "rows_RK", "spoken_T")
_SMALL_TYPES = {"ids_P": np.int32, "positions_P": np.float32, "rows_RK": np.uint16, "spoken_T": np.int16}


@dataclass(frozen=True, kw_only=True)
class PackageLimits:
    """`total_mb`: limit of the whole folder. `audio_mb`: limit of the excerpt."""

    total_mb: float = 60.0
    audio_mb: float = 25.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Package:
    """An open package."""

    folder: Path
    config: CurriculumConfig
    examples: Mapping[str, Sequence[Example]]
    """Examples by split, train and valid."""
    decoder: DecoderSettings | None = None
    """Of the stage [decoder], where the recipe has it."""

    @property
    def codec_dir(self) -> Path:
        return self.folder / "codec"

    def corpus(self) -> Corpus:
        """The audio excerpt, decoded into memory."""
        described = _read(self.folder)
        items = []
        for clip in described["audio"]:
            audio_L, _ = soundfile.read(self.folder / clip["file"], dtype="int16")
            items.append(
                Item(
                    source=clip["source"], domain=clip["domain"], kind=clip["kind"], text="", split="train", offset=0,
                    length=len(audio_L), audio_L=audio_L,
                )
            )  # fmt: skip
        return Corpus(sample_rate_hz=described["sample_rate_hz"], licences={}, items=tuple(items))

    def examples_of_corpus(self) -> list[Example]:
        """The training examples of the excerpt's clips."""
        return [self.examples["train"][clip["example"]] for clip in _read(self.folder)["audio"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class PackageParts:
    """What is packed. `examples`: by split, train and valid. `corpus`: where the excerpt is taken from.

    The first examples of train are those of the corpus's clips of that split, in its order.
    """

    config: CurriculumConfig
    examples: Mapping[str, Sequence[Example]]
    corpus: Corpus
    codec_dir: Path
    decoder: DecoderSettings | None = None


def write_package(out: Path, parts: PackageParts, limits: PackageLimits) -> int:
    """Write a package and return its size in bytes.

    Raises OutputError where `out` exists, another process writes it, or the package is too big; nothing is left then.
    """
    if out.exists():
        raise OutputError(f"{out} exists: remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with staging_path(out, wait=False) as staging:
            _write_parts(staging, parts, limits)
            size = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
            if size > limits.total_mb * 1e6:
                raise OutputError(f"{out} has {size / 1e6:.1f} MB; at most {limits.total_mb:g} MB may be carried")
            staging.rename(out)
    except BlockingIOError:
        raise OutputError(f"{out}: another process is writing it; wait for that, or choose another name") from None
    return size


def _write_parts(out: Path, parts: PackageParts, limits: PackageLimits) -> None:
    config = parts.config
    (out / "audio").mkdir(parents=True)
    arrays: dict[str, Any] = _pack(parts.examples)
    np.savez_compressed(out / "examples.npz", **arrays)
    shutil.copytree(parts.codec_dir, out / "codec", ignore=shutil.ignore_patterns(".*"))
    description = {
        "format": FORMAT,
        "model": config.model.to_dict(),
        "stages": {name: settings.to_dict() for name, settings in config.stages.items()},
        "balanced_clips": dict(config.balanced_clips),
        "seed": config.seed,
        "decoder": None if parts.decoder is None else parts.decoder.to_dict(),
        "sample_rate_hz": parts.corpus.sample_rate_hz,
        "audio": _write_excerpt(out, parts.corpus, limits.audio_mb * 1e6),
    }
    (out / "package.json").write_text(json.dumps(description) + "\n", encoding="utf-8")


def open_package(folder: Path) -> Package:
    """Open a package. Raises CheckpointError where `folder` is none."""
    described = _read(folder)
    config = CurriculumConfig(
        model=ModelConfig.from_dict(described["model"]),
        stages={name: TrainingConfig.from_sections(values) for name, values in described["stages"].items()},
        balanced_clips=described["balanced_clips"],
        seed=described["seed"],
    )
    with np.load(folder / "examples.npz", allow_pickle=False) as arrays:
        examples = _unpack(dict(arrays))
    stage = described.get("decoder")  # packages of earlier releases have none
    decoder = None if stage is None else DecoderSettings.from_dict(stage)
    return Package(folder=folder, config=config, examples=examples, decoder=decoder)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "package.json"
    described = read_json(path, CheckpointError) if path.exists() else {}
    if described.get("format") != FORMAT:
        raise CheckpointError(f"{folder} is no training package: write one with `unimoe train pack`")
    return described


def _pack(examples: Mapping[str, Sequence[Example]]) -> dict[str, np.ndarray]:
    """Concatenated arrays of all examples, and their lengths."""
    together = [(split, example) for split, chosen in examples.items() for example in chosen]
    packed: dict[str, np.ndarray] = {
        "split": np.array([split for split, _ in together]),
        "domain": np.array([example.domain for _, example in together]),
    }
    for name in _FIELDS:
        arrays = [getattr(example, name) for _, example in together]
        packed[name] = np.concatenate(arrays).astype(_SMALL_TYPES[name])
        packed[f"{name}_lengths"] = np.array([len(array) for array in arrays], np.int32)
    return packed


def _unpack(packed: Mapping[str, np.ndarray]) -> dict[str, list[Example]]:
    fields = {}
    for name in _FIELDS:
        values = packed[name] if name == "positions_P" else packed[name].astype(np.int64)
        fields[name] = np.split(values, np.cumsum(packed[f"{name}_lengths"])[:-1])
    found: dict[str, list[Example]] = {}
    for at, (split, domain) in enumerate(zip(packed["split"].tolist(), packed["domain"].tolist(), strict=True)):
        found.setdefault(split, []).append(Example(domain=domain, **{name: fields[name][at] for name in _FIELDS}))
    return found


def _write_excerpt(out: Path, corpus: Corpus, most_bytes: float) -> list[dict[str, Any]]:
    """Write clips of the training split in random order, as many as fit. FLAC is lossless."""
    items = list(enumerate(corpus.select(split="train")))
    random.Random(0).shuffle(items)
    written: list[dict[str, Any]] = []
    size = 0
    for place, item in items:
        file = f"audio/{len(written):05d}.flac"
        soundfile.write(out / file, item.samples(), corpus.sample_rate_hz, format="FLAC", subtype="PCM_16")
        size += (out / file).stat().st_size
        if size > most_bytes:
            (out / file).unlink()
            break
        described = {"file": file, "source": item.source, "domain": item.domain, "kind": item.kind, "example": place}
        written.append(described)
    return written
