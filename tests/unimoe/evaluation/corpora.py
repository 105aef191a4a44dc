"""A corpus with known answers: melodies, and voices that hum their texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unimoe.data.corpus import Corpus, write_audio, write_index

RATE_HZ = 16000
MELODIES = ((60, 64, 67), (62, 65, 69), (71, 67, 61))


def tones(pitches: tuple[int, ...]) -> np.ndarray:
    time_L = np.arange(RATE_HZ // 2) / RATE_HZ
    return np.concatenate([0.2 * np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time_L) for p in pitches])


def write_corpus(folder: Path, *, speech: bool) -> Corpus:
    """Melodies of a flute and, on request, two voices that hum their texts."""
    folder.mkdir()
    rows = []
    melodies = [(split, pitches) for split in ("test", "train") for pitches in MELODIES]
    offsets = write_audio(folder / "flute.npy", [tones(pitches) for _, pitches in melodies])
    names = {60: "C4", 64: "E4", 67: "G4", 62: "D4", 65: "F4", 69: "A4", 71: "B4", 61: "C#4"}
    for (split, pitches), offset in zip(melodies, offsets, strict=True):
        rows.append({
            "source": "flute", "domain": "music", "kind": "melody", "text": " ".join(names[p] for p in pitches),
            "split": split, "offset": offset, "length": 3 * RATE_HZ // 2, "instrument": "flute", "tempo_bpm": 120,
            "notes": [{"pitch": p, "start_s": i / 2, "end_s": i / 2 + 0.45} for i, p in enumerate(pitches)],
        })  # fmt: skip
    rows += [{**row, "kind": "harmony"} for row in rows[:1]]
    for number, voice in enumerate(("ann", "bob") if speech else ()):
        texts = ["one two", "six", "one", "two six", "cat"]
        offsets = write_audio(folder / f"{voice}.npy", [tones((50 + 9 * number, 52 + 9 * number))] * len(texts))
        for at, (text, offset) in enumerate(zip(texts, offsets, strict=True)):
            rows.append({
                "source": voice, "domain": "speech", "kind": "digits" if at < 4 else "sentences", "text": text,
                "split": "train" if at < 2 else "test", "offset": offset, "length": RATE_HZ, "voice": voice,
                "phonemes": [["ae", 1.0]],
            })  # fmt: skip
    sources = {str(row["source"]): "" for row in rows}
    write_index(folder, rows, sample_rate_hz=RATE_HZ, licences=sources, seed=0)
    return Corpus.open(folder)
