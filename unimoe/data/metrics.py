"""Measures clips automatically, and computes a fingerprint that finds near copies.

Results are kept in a file of one line a clip, under the clip's hash. An interrupted measurement resumes.

Shapes: L samples, T frames, F frequency bins, M mel bands, S segments of time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe.bars import tracked
from unimoe.data.corpus import Corpus, Item, hash_clip
from unimoe.data.json_lines import append_json_lines, read_json_lines
from unimoe.data.parallel import spread
from unimoe.data.requirements import require_all, require_module, require_pocketsphinx
from unimoe.stopping import kept_when_stopped
from unimoe_runtime.audio.log_mel import log_mel
from unimoe_runtime.errors import OutputError

METRICS: Final = "metrics.jsonl"
NUM_SEGMENTS: Final = 16
NUM_BANDS: Final = 20
_FRAME_S = 0.02
_QUIETEST_DB = -90.0
_SILENT_BELOW_PEAK_DB = 40.0
_CLIPPED = 0.999
_POWER_SHARE = 0.99
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Slow metrics that run on request: word errors of speech (pocketsphinx), DNSMOS (speechmos)."""

    wer: bool = False
    dnsmos: bool = False

    def __post_init__(self) -> None:
        checks = ((self.wer, require_pocketsphinx), (self.dnsmos, require_dnsmos))
        require_all(check for wanted, check in checks if wanted)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in ("wer", "dnsmos") if getattr(self, name))


def measure(pcm_L: np.ndarray, sample_rate_hz: int) -> dict[str, float]:
    """Metrics of one clip.

    `level_db` (root mean square) and `peak_db`, both relative to full scale; `clipped_share` of samples at full scale;
    `silence_share` of frames 40 dB below the loudest; `snr_db`, the distance of the 95th and the 5th percentile of
    frame levels, which silence between words increases; `bandwidth_hz`, below which 99 % of the power lies.
    """
    frame = round(_FRAME_S * sample_rate_hz)
    whole = max(1, len(pcm_L) // frame)
    padded_L = np.pad(pcm_L.astype(np.float64), (0, max(0, frame - len(pcm_L))))
    levels_T = _decibels(np.sqrt(np.mean(padded_L[: whole * frame].reshape(whole, frame) ** 2, axis=1)))
    power_F = np.abs(np.fft.rfft(padded_L)) ** 2
    within_F = np.cumsum(power_F) >= _POWER_SHARE * power_F.sum()
    return {
        "duration_s": len(pcm_L) / sample_rate_hz,
        "level_db": float(_decibels(np.sqrt(np.mean(padded_L**2)))),
        "peak_db": float(_decibels(np.abs(padded_L).max())),
        "clipped_share": float(np.mean(np.abs(padded_L) >= _CLIPPED)),
        "silence_share": float(np.mean(levels_T < levels_T.max() - _SILENT_BELOW_PEAK_DB)),
        "snr_db": float(np.percentile(levels_T, 95) - np.percentile(levels_T, 5)),
        "bandwidth_hz": float(within_F.argmax() * sample_rate_hz / len(padded_L)),
    }


def _decibels(value: Any) -> Any:
    return np.maximum(20 * np.log10(np.maximum(value, 1e-12)), _QUIETEST_DB)


def fingerprint(pcm_L: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The log-mel spectrum in 16 time segments and 20 bands, mean removed, normalised to length 1; [S x M] float32."""
    log_mel_TM = log_mel(pcm_L, sample_rate_hz)
    bands_TM = log_mel_TM.reshape(len(log_mel_TM), NUM_BANDS, -1).mean(axis=2)
    edges = np.linspace(0, len(bands_TM), NUM_SEGMENTS + 1)
    starts = np.minimum(edges[:-1].astype(int), len(bands_TM) - 1)
    stops = np.maximum(edges[1:].astype(int), starts + 1)
    print_SM = np.stack([bands_TM[start:stop].mean(axis=0) for start, stop in zip(starts, stops, strict=True)])
    centred = (print_SM - print_SM.mean()).ravel()
    return (centred / max(float(np.linalg.norm(centred)), 1e-9)).astype(np.float32)


def pack_fingerprint(values: np.ndarray) -> str:
    """A fingerprint as text, with 8 bits a value."""
    scale = 127 / max(float(np.abs(values).max()), 1e-9)
    return base64.b64encode(np.round(values * scale).astype(np.int8).tobytes()).decode()


def unpack_fingerprint(text: str) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(text), dtype=np.int8).astype(np.float32)
    return values / max(float(np.linalg.norm(values)), 1e-9)


Work = tuple[str, np.ndarray, str, int, float]
"""Hash, int16 samples, text (empty for music), number of phonemes, notes or words, sample rate."""


def _measure_one(work: Work, extras: Extras) -> dict[str, Any]:
    clip, samples_L, text, num_sounds, sample_rate_hz = work
    pcm_L = samples_L.astype(np.float32) / 32768
    rate_hz = int(sample_rate_hz)
    found: dict[str, Any] = {"clip": clip, **measure(pcm_L, rate_hz)}
    if num_sounds:
        found["sounds_per_s"] = num_sounds / found["duration_s"]
    if extras.wer and text:
        found["wer"] = _word_error_rate(pcm_L, rate_hz, text)
    if extras.dnsmos:
        found["dnsmos"] = _dnsmos(pcm_L, rate_hz)
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
    return found | {"fingerprint": pack_fingerprint(fingerprint(pcm_L, rate_hz))}


def require_dnsmos() -> None:
    """Raise OutputError where DNSMOS's network or its engine is not installed."""
    from unimoe.evaluation.installed import Unmeasured, file_of
    from unimoe.evaluation.quality import DNSMOS_FILE

    try:
        file_of(*DNSMOS_FILE)
    except Unmeasured as error:
        raise OutputError(str(error)) from None
    require_module("onnxruntime", "cpu")


@cache
def _listener() -> Callable[[np.ndarray], tuple[float, float, float]]:
    from unimoe.evaluation.quality import Dnsmos

    return Dnsmos()


@cache
def _recognizer() -> Callable[[np.ndarray], str]:
    from unimoe.evaluation.intelligibility import Recognizer

    return Recognizer(None)


def _word_error_rate(pcm_L: np.ndarray, sample_rate_hz: int, text: str) -> float:
    import soxr

    from unimoe.evaluation.intelligibility import RECOGNIZER_RATE_HZ, words_of
    from unimoe.evaluation.word_errors import compare_tokens

    heard = _recognizer()(soxr.resample(pcm_L, sample_rate_hz, RECOGNIZER_RATE_HZ))
    return compare_tokens(words_of(text), heard.split()).rate


def _dnsmos(pcm_L: np.ndarray, sample_rate_hz: int) -> float:
    import soxr

    from unimoe.evaluation.quality import RATE_HZ

    return _listener()(soxr.resample(pcm_L, sample_rate_hz, RATE_HZ))[2]


def _work(item: Item, sample_rate_hz: int) -> Work:
    samples_L = np.array(item.samples())
    sounds = sum(phoneme != "pau" for phoneme, _ in item.phonemes) or len(item.notes)
    text = item.text if item.domain == "speech" else ""
    return item.clip or hash_clip(samples_L), samples_L, text, sounds, sample_rate_hz


def read_metrics(path: Path) -> dict[str, dict[str, Any]]:
    """Lines of metrics.jsonl by clip. An incomplete last line is left out."""
    found: dict[str, dict[str, Any]] = {}
    for values in read_json_lines(path, "clip"):
        found[values["clip"]] = values
    return found


def measure_corpus(
    corpus: Corpus, path: Path, extras: Extras | None = None, *, earlier: Path | None = None, num_workers: int = 2
) -> list[dict[str, Any]]:
    """Metrics of all clips, in the corpus's order. New ones are added to `path`.

    Clips that `path` or `earlier`, a file like it, already has are not measured again.
    """
    extras = extras or Extras()
    known = {**(read_metrics(earlier) if earlier else {}), **read_metrics(path)}
    names = [item.clip or hash_clip(item.samples()) for item in corpus]
    missing = [
        item
        for name, item in zip(names, corpus, strict=True)
        if name not in known or any(extra not in known[name] and _applies(extra, item) for extra in extras.names)
    ]
    if missing:
        works: Iterable[Work] = (_work(item, corpus.sample_rate_hz) for item in missing)
        kept = kept_when_stopped(lambda: f"{path} keeps what was measured; the same command goes on there")
        with kept, spread(num_workers) as run, append_json_lines(path) as write:
            made = run(partial(_measure_one, extras=extras), works, chunk=_CHUNK)
            for values in tracked(made, "metrics", total=len(missing)):
                known[values["clip"]] = {**known.get(values["clip"], {}), **values}
                write(known[values["clip"]])
    return [known[name] for name in names]


def _applies(extra: str, item: Item) -> bool:
    return extra != "wer" or (item.domain == "speech" and bool(item.text))


def near_copies(prints: Sequence[np.ndarray], lengths: Sequence[int], *, at_least: float) -> list[int]:
    """For each clip the index of the first earlier clip that it nearly equals, or -1.

    Two clips are near copies where their lengths differ by at most 2 % and their fingerprints' product reaches
    `at_least`.
    """
    order = sorted(range(len(prints)), key=lambda index: (lengths[index], index))
    copies = [-1] * len(prints)
    first = 0
    for place, index in enumerate(order):
        while lengths[order[first]] < 0.98 * lengths[index]:
            first += 1
        if place == first:
            continue
        others = order[first:place]
        alike = np.stack([prints[other] for other in others]) @ prints[index]
        near = [
            other for other, product in zip(others, alike, strict=True) if product >= at_least and copies[other] < 0
        ]
        if near:
            copies[index] = min(near)
    return copies
