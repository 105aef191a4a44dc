"""Music with known notes, rendered by `fluidsynth` with the sound font FluidR3_GM (Frank Wen, MIT).

Many melodies go into one MIDI file, which is rendered in one run and then cut: loading the sound font costs more than
playing a melody. The file's clock has one tick a millisecond, so the note times carry a melody's tempo.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr

from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.notation import Chord, note_name, write_chords

__all__ = ["Melody", "Note", "draw_melodies", "note_name", "play"]

SOUND_FONT: Final = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
PROGRAMS: Final = {
    "piano": 0, "celesta": 8, "vibraphone": 11, "marimba": 12, "organ": 19, "guitar": 24, "violin": 40, "cello": 42,
    "harp": 46, "strings": 48, "trumpet": 56, "trombone": 57, "horn": 60, "saxophone": 65, "oboe": 68, "clarinet": 71,
    "flute": 73, "recorder": 74, "ocarina": 79,
}  # fmt: skip
"""General MIDI programs, counted from 0."""

LOWEST_PITCH: Final = 55
HIGHEST_PITCH: Final = 84
TEMPI_BPM: Final = tuple(range(80, 161, 10))
LEAD_S: Final = 0.1
TAIL_S: Final = 0.3
_GAP_S = 0.6  # after the tail, so that a release does not sound in the next melody
_SOUNDING_SHARE = 0.9  # of a beat; the rest separates repeated notes
_RENDER_RATE_HZ = 32000  # above the corpus rate, because the synthesizer does not filter against aliasing


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note: its MIDI pitch (60 is C4), its start and its end in seconds."""

    pitch: int
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Melody:
    """A sequence of chords of one or more notes. `kind`, `key` and `piece` describe them where known."""

    chords: tuple[Chord, ...]
    tempo_bpm: int
    instrument: str
    kind: str = "melody"
    key: str = ""
    piece: str = ""

    @property
    def pitches(self) -> tuple[int, ...]:
        return tuple(pitch for chord in self.chords for pitch in chord.pitches)

    @property
    def text(self) -> str:
        """The notes as they are written, such as `C4 E4*2 G4`. This text decides the split."""
        return write_chords(self.chords)

    @property
    def notes(self) -> tuple[Note, ...]:
        """When each note sounds, in written order."""
        beat_s = 60 / self.tempo_bpm
        notes: list[Note] = []
        clock = 0.0
        for chord in self.chords:
            start_s = round(LEAD_S + clock * beat_s, 4)
            end_s = round(LEAD_S + (clock + _SOUNDING_SHARE * chord.beats) * beat_s, 4)
            notes += [Note(pitch=pitch, start_s=start_s, end_s=end_s) for pitch in chord.pitches]
            clock += chord.beats
        return tuple(notes)

    @property
    def duration_s(self) -> float:
        return LEAD_S + sum(chord.beats for chord in self.chords) * 60 / self.tempo_bpm + TAIL_S


def draw_melodies(count: int, instrument: str, rng: random.Random) -> list[Melody]:
    """`count` melodies of 3 to 8 notes between G3 and C6. Neighbouring notes are at most a fifth apart."""
    melodies = []
    for _ in range(count):
        pitches = [rng.randint(LOWEST_PITCH, HIGHEST_PITCH)]
        for _ in range(rng.randint(2, 7)):
            low, high = max(LOWEST_PITCH, pitches[-1] - 7), min(HIGHEST_PITCH, pitches[-1] + 7)
            pitches.append(rng.randint(low, high))
        chords = tuple(Chord(pitches=(pitch,)) for pitch in pitches)
        melodies.append(Melody(chords=chords, tempo_bpm=rng.choice(TEMPI_BPM), instrument=instrument))
    return melodies


def _variable_length(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def midi_bytes(notes: Sequence[Note], program: int) -> bytes:
    """A Standard MIDI File (format 0, 1000 ticks a second) that plays `notes` on one channel."""
    events = [(note.start_s, bytes([0x90, note.pitch, 100])) for note in notes]
    events += [(note.end_s, bytes([0x80, note.pitch, 0])) for note in notes]
    track = bytearray(b"\x00\xff\x51\x03" + (1_000_000).to_bytes(3, "big"))  # one quarter note a second
    track += b"\x00" + bytes([0xC0, program])
    clock = 0
    for time_s, event in sorted(events):
        tick = round(time_s * 1000)
        track += _variable_length(tick - clock) + event
        clock = tick
    track += _variable_length(1000) + b"\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 1000) + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def require_fluidsynth() -> str:
    """Path of the `fluidsynth` program. Raises OutputError when it or its sound font is not installed."""
    program = shutil.which("fluidsynth")
    if program is None or not SOUND_FONT.exists():
        raise OutputError(
            "fluidsynth or its sound font is not installed: install both "
            "(Debian: apt install fluidsynth fluid-soundfont-gm) to render music"
        )
    return program


def play(melodies: Sequence[Melody], sample_rate_hz: int) -> list[np.ndarray]:
    """Render melodies of one instrument. Returns float32 mono samples of each, `duration_s` long."""
    program = require_fluidsynth()
    notes: list[Note] = []
    starts_s: list[float] = []
    clock_s = 0.0
    for melody in melodies:
        starts_s.append(clock_s)
        for note in melody.notes:
            notes.append(Note(pitch=note.pitch, start_s=clock_s + note.start_s, end_s=clock_s + note.end_s))
        clock_s += melody.duration_s + _GAP_S
    with tempfile.TemporaryDirectory(prefix="unimoe-fluidsynth-") as folder:
        midi, wav = Path(folder) / "melodies.mid", Path(folder) / "melodies.wav"
        midi.write_bytes(midi_bytes(notes, PROGRAMS[melodies[0].instrument]))
        options = ["-ni", "-q", "-R", "0", "-C", "0", "-g", "0.6", "-r", str(_RENDER_RATE_HZ), "-F", str(wav)]
        command = [program, *options, str(SOUND_FONT), str(midi)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not wav.exists():
            raise OutputError(f"fluidsynth failed with exit code {done.returncode}: {done.stderr.strip()[-200:]}")
        stereo_LC, rate_hz = soundfile.read(wav, dtype="float32", always_2d=True)
    pcm_L = soxr.resample(stereo_LC.mean(axis=1), rate_hz, sample_rate_hz)
    if len(pcm_L) < round((clock_s - _GAP_S) * sample_rate_hz):
        raise OutputError(f"fluidsynth rendered {len(pcm_L) / sample_rate_hz:.1f} s of {clock_s:.1f} s")
    cuts = []
    for melody, start_s in zip(melodies, starts_s, strict=True):
        start = round(start_s * sample_rate_hz)
        cuts.append(pcm_L[start : start + round(melody.duration_s * sample_rate_hz)])
    return cuts
