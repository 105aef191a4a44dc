"""Phrases of Bach's chorales, read from the MusicXML files of the PyPI package music21.

Only pitches, durations, fermatas and key signatures are read. No code of music21 is imported. A chord starts wherever
one of the four voices moves, so a held voice is struck again.
"""

from __future__ import annotations

import bisect
import importlib.util
import itertools
import random
import re
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

from unimoe.data.melodies import Melody
from unimoe.data.music_forms import MAX_DURATION_S, keynote
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.notation import Chord

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_TEMPI_BPM = (80, 90, 100, 110, 120)
_MAX_CHORDS = 16

Voice = list[tuple[Fraction, int]]
"""Start of each note in beats, and its pitch; -1 where a rest starts."""


def chorale_files() -> list[Path]:
    """The chorales' files. Raises OutputError where music21 is not installed."""
    found = importlib.util.find_spec("music21")
    if found is None or found.origin is None:
        raise OutputError("music21 is not installed: `pip install --no-deps music21==10.5.1` to render chorales")
    files = sorted((Path(found.origin).parent / "corpus" / "bach").glob("bwv*.mxl"))
    return [path for path in files if re.fullmatch(r"bwv\d+(\.\d+)?", path.stem)]


def _read_part(part: ElementTree.Element) -> tuple[Voice, list[Fraction], int, Fraction]:
    """A voice, where its fermatas end, the sharps of its key (flats negative), and its length."""
    clock, divisions, sharps = Fraction(0), 1, 0
    voice: Voice = []
    fermatas: list[Fraction] = []
    tied = False
    for element in part.iter():
        match element.tag:
            case "divisions":
                divisions = int(element.text or 1)
            case "fifths":
                sharps = int(element.text or 0)
            case "backup" | "grace":
                raise ValueError("more than one line in a part")
            case "note":
                if element.find("chord") is not None:
                    raise ValueError("a chord in a part")
                pitch = element.find("pitch")
                sounding = -1
                if pitch is not None:
                    octave = int(pitch.findtext("octave") or 4)
                    alter = int(float(pitch.findtext("alter") or 0))
                    sounding = 12 * (octave + 1) + _STEPS[pitch.findtext("step") or "C"] + alter
                if not tied:
                    voice.append((clock, sounding))
                tied = any(tie.get("type") == "start" for tie in element.findall("tie"))
                clock += Fraction(int(element.findtext("duration") or 0), divisions)
                if element.find("notations/fermata") is not None:
                    fermatas.append(clock)
    return voice, fermatas, sharps, clock


def read_phrases(path: Path) -> Iterator[tuple[list[Chord], str]]:
    """Phrases, which end at fermatas, as chords of four notes from low to high, with the piece's key.

    Yields nothing where a file does not have four plain voices, or where its last bass note fits no key of its
    signature.
    """
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/.][^/]*\.(music)?xml", name))
        root = ElementTree.fromstring(archive.read(name))
    try:
        parts = [_read_part(part) for part in root.iter("part")]
    except ValueError:
        return
    if len(parts) != 4 or len({length for *_, length in parts}) != 1:
        return
    voices, length, sharps = [voice for voice, *_ in parts], parts[0][3], parts[0][2]
    tonic, last = 7 * sharps % 12, voices[3][-1][1] % 12
    if last not in (tonic, (tonic - 3) % 12):
        return
    key = f"{keynote(last)} {'major' if last == tonic else 'minor'}"
    fermatas = sorted({end for _, ends, *_ in parts for end in ends} | {length})
    start = Fraction(0)
    for end in fermatas:
        times = sorted({at for voice in voices for at, _ in voice if start < at < end} | {start, end})
        chords = [
            Chord(pitches=tuple(sorted(_sounding(voice, at) for voice in voices)), beats=float(until - at))
            for at, until in itertools.pairwise(times)
        ]
        start = end
        if all(min(chord.pitches) > 0 for chord in chords):
            yield chords, key


def _sounding(voice: Voice, at: Fraction) -> int:
    return voice[bisect.bisect_right(voice, at, key=lambda note: note[0]) - 1][1]


def draw_chorales(count: int, instrument: str, rng: random.Random) -> list[Melody]:
    """Up to `count` phrases in random order. A phrase has at most 16 chords, each half a beat to three beats long."""
    found: list[Melody] = []
    files = chorale_files()
    rng.shuffle(files)
    for path in files:
        for index, (chords, key) in enumerate(read_phrases(path)):
            tempo = rng.choice(_TEMPI_BPM)
            melody = Melody(
                chords=tuple(chords), tempo_bpm=tempo, instrument=instrument, kind="chorale", key=key,
                piece=f"chorale {path.stem} phrase {index + 1}",
            )  # fmt: skip
            fits = 4 <= len(chords) <= _MAX_CHORDS and all(0.5 <= chord.beats <= 3 for chord in chords)
            if fits and all(len(set(chord.pitches)) == 4 for chord in chords) and melody.duration_s <= MAX_DURATION_S:
                found.append(melody)
        if len(found) >= count:
            return found[:count]
    return found
