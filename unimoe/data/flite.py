"""Speech from Debian's `flite` (BSD-style licence): a waveform, its phonemes and the end time of each.

Only corpus rendering calls this module. The finished model speaks without `flite`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import soundfile
import soxr

from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.lexicon import BEFORE_VOWEL
from unimoe_runtime.frontend.pronunciation import PAUSE, Phonemes

VOICES = ("rms", "slt", "awb", "kal16")
WEAK_FORMS: dict[str, Phonemes] = {"a": ("ax",), "the": ("dh", "ax"), f"the{BEFORE_VOWEL}": ("dh", "iy")}
"""Words that are pronounced differently in a sentence than alone."""
_BATCH = 40

Alignment = tuple[tuple[str, float], ...]
"""Pairs of a phoneme and its end time in seconds."""


def require_flite() -> str:
    """Path of the `flite` program. Raises OutputError when it is not installed."""
    program = shutil.which("flite")
    if program is None:
        raise OutputError("flite is not installed: install it (Debian: apt install flite) to render speech")
    return program


def parse_phonemes(printed: str) -> Alignment:
    """Read the output of `flite -psdur`: words such as `pau:0.136 t:0.239`, times in seconds."""
    pairs = (word.rpartition(":") for word in printed.split())
    return tuple((phoneme, float(end)) for phoneme, _, end in pairs)


def speak(text: str, voice: str, sample_rate_hz: int) -> tuple[np.ndarray, Alignment]:
    """Speak `text`. Returns float32 mono samples at `sample_rate_hz` and the phonemes with end times."""
    with tempfile.TemporaryDirectory(prefix="unimoe-flite-") as folder:
        wav = Path(folder) / "speech.wav"
        command = [require_flite(), "-voice", voice, "-psdur", "-t", text, "-o", str(wav)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not wav.exists():
            reason = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise OutputError(f"flite could not speak {text!r} with voice {voice}: {reason[-1]}")
        pcm_L, rate_hz = soundfile.read(wav, dtype="float32")
    # Some voices drop part of the closing pause that their durations include.
    spoken_s = len(pcm_L) / rate_hz
    phonemes = tuple((phoneme, min(end_s, spoken_s)) for phoneme, end_s in parse_phonemes(done.stdout))
    return soxr.resample(pcm_L, rate_hz, sample_rate_hz), phonemes


def phonemise(words: Sequence[str]) -> dict[str, Phonemes]:
    """flite's phonemes of words, each spoken alone. Raises OutputError where flite is missing or fails."""
    program = require_flite()
    found: dict[str, Phonemes] = {}
    for start in range(0, len(words), _BATCH):
        batch = list(words[start : start + _BATCH])
        groups = _ask(program, batch)
        if len(groups) != len(batch):  # flite reads some word as two phrases: ask for each word alone
            groups = [[sound for group in _ask(program, [word]) for sound in group] for word in batch]
        found |= {word: tuple(group) for word, group in zip(batch, groups, strict=True)}
    return found


def letter_names() -> dict[str, Phonemes]:
    """flite's names of the capital letters, as it says them in abbreviations."""
    return {said[0]: phonemes for said, phonemes in phonemise([f"{letter}." for letter in ascii_uppercase]).items()}


def _ask(program: str, words: Sequence[str]) -> list[list[str]]:
    command = [program, "-voice", "kal16", "-ps", "-t", ", ".join(words) + ".", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutputError(f"flite could not phonemise {words[0]!r}: {done.stderr.strip()[-200:]}")
    groups: list[list[str]] = [[]]
    for sound in done.stdout.split():
        if sound == PAUSE:
            groups.append([])
        else:
            groups[-1].append(sound)
    return [group for group in groups if group]
