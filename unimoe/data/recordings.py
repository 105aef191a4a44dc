"""Recordings from Debian packages: people who speak, and bands that play.

Prompts have a text where their file name gives their words. All other recordings, and all music, only train a codec.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe.data.sources import get_source
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.normalisation import Numbers, open_language
from unimoe_runtime.install import install_command

_QUIETEST_RMS = 0.003
_SHORTEST_S = 0.3
_FADE_S = 0.005

Clip = tuple[dict[str, Any], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Files of one package. `words` gives the words of a file, or nothing where they are unknown."""

    folder: Path
    pattern: str
    domain: str
    voice: str = ""
    words: Callable[[Path], str] = lambda path: ""


def _numbers() -> Numbers:
    return open_language("en").numbers


def asterisk_words(path: Path) -> str:
    """The words of a telephone prompt, for digits, ordinals and letters of the spelling alphabet."""
    if path.parent.name == "digits":
        if path.stem.isdigit():
            return " ".join(_numbers().cardinal(int(path.stem)))
        rank = re.fullmatch(r"h-(\d+)", path.stem)
        if rank:
            return " ".join(_numbers().ordinal(int(rank[1])))
        return path.stem if path.stem in ("hundred", "thousand", "million", "minus", "today", "tomorrow") else ""
    return ""


def testdata_words(path: Path) -> str:
    """The words of a clip of pocketsphinx's tests, from the transcription file beside it."""
    for transcription in path.parent.glob("*transcription"):
        for line in transcription.read_text(encoding="utf-8").splitlines():
            said = re.fullmatch(r"<s>\s*(.*?)\s*</s>\s*\((.*)\)", line.strip())
            if said and said[2] == path.stem:
                return said[1]
    return ""


COLLECTIONS: Final[dict[str, Collection]] = {
    "asterisk": Collection(
        folder=Path("/usr/share/asterisk/sounds/en_US_f_Allison"), pattern="**/*.g722", domain="speech",
        voice="allison", words=asterisk_words,
    ),
    "testdata": Collection(
        folder=Path("/usr/share/pocketsphinx/test/data"), pattern="*/*.wav", domain="speech", words=testdata_words
    ),
    "planetblupi": Collection(folder=Path("/usr/share/planetblupi/music"), pattern="*.ogg", domain="music"),
    "singularity": Collection(folder=Path("/usr/share/games/singularity/music"), pattern="**/*.ogg", domain="music"),
}  # fmt: skip


def require_collection(name: str) -> Collection:
    """A collection. Raises OutputError, which says what to install, where it or its decoder is not installed."""
    collection = COLLECTIONS[name]
    if not collection.folder.exists():
        raise OutputError(f"the recordings {name!r} are not installed: {get_source(name).install}")
    if collection.pattern.endswith(".g722") and importlib.util.find_spec("av") is None:
        raise OutputError(f"PyAV is not installed: `{install_command('video')}` to read G.722 recordings")
    return collection


def list_files(name: str) -> list[str]:
    """The collection's audio files, in order."""
    collection = require_collection(name)
    return [str(path) for path in sorted(collection.folder.glob(collection.pattern)) if path.parent.name != "silence"]


def read_all(paths: list[str], *, name: str, sample_rate_hz: int, piece_s: float, most_pieces: int) -> list[Clip]:
    """Clips of some files. Speech up to `piece_s` stays whole. Everything else is cut into pieces of `piece_s`.

    A file gives at most `most_pieces`, at equal distances. All pieces of a file are in the same split.
    """
    collection = COLLECTIONS[name]
    clips: list[Clip] = []
    for path in map(Path, paths):
        pcm_L = read_recording(path, sample_rate_hz)
        whole = len(pcm_L) <= piece_s * sample_rate_hz
        text = collection.words(path) if whole else ""
        piece = str(path.relative_to(collection.folder).with_suffix(""))
        kind = "recorded" if collection.domain == "speech" else "recording"
        fields = {"domain": collection.domain, "kind": kind, "text": text, "piece": f"{name} {piece}"}
        if collection.voice:
            fields["voice"] = collection.voice
        pieces = cut(pcm_L, sample_rate_hz, piece_s)
        step = max(1, -(-len(pieces) // most_pieces))
        clips += [(dict(fields), part_L) for part_L in pieces[::step]]
    return clips


def cut(pcm_L: np.ndarray, sample_rate_hz: int, piece_s: float) -> list[np.ndarray]:
    """Pieces of `piece_s` and a shorter last one, each faded at its ends. Silent and very short pieces are left out."""
    size, fade = round(piece_s * sample_rate_hz), round(_FADE_S * sample_rate_hz)
    pieces = []
    for start in range(0, len(pcm_L), size):
        part_L = pcm_L[start : start + size].copy()
        if len(part_L) < _SHORTEST_S * sample_rate_hz or np.sqrt(np.mean(part_L**2)) < _QUIETEST_RMS:
            continue
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        part_L[:fade] *= ramp
        part_L[-fade:] *= ramp[::-1]
        pieces.append(part_L)
    return pieces


def read_recording(path: Path, sample_rate_hz: int) -> np.ndarray:
    """Mono float32 samples of an audio file; G.722 (telephone, 16 kHz) through PyAV."""
    if path.suffix == ".g722":
        return _read_g722(path, sample_rate_hz)
    from unimoe_runtime.audio.files import read_audio

    return read_audio(path, sample_rate_hz)


def _read_g722(path: Path, sample_rate_hz: int) -> np.ndarray:
    import av
    import soxr

    with av.open(str(path), format="g722") as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    pcm_L = np.concatenate(frames).astype(np.float32) / 32768
    resampled_L: np.ndarray = soxr.resample(pcm_L, 16000, sample_rate_hz)
    return resampled_L
