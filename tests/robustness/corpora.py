"""A small corpus and a small folder of spoken clips, of noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from unimoe.data.corpus import hash_clip, to_int16, write_audio, write_index

RATE_HZ = 16_000


def write_corpora(corpus: Path, spoken: Path) -> None:
    """Write the folders."""
    rng = np.random.default_rng(0)
    clips = [to_int16(0.1 * rng.standard_normal(RATE_HZ // 2).astype(np.float32)) for _ in range(3)]
    corpus.mkdir()
    items = []
    for source, domain, part in (("ann", "speech", clips[:2]), ("flute", "music", clips[2:])):
        for number, (offset, clip) in enumerate(zip(write_audio(corpus / f"{source}.npy", part), part, strict=True)):
            known = {
                "voice": "ann", "phonemes": [["hh", 0.1], ["ah0", 0.2], ["l", 0.3], ["ow1", 0.5]],
                "word_numbers": [0, 0, 0, 0],
            } if domain == "speech" else {
                "instrument": "flute", "tempo_bpm": 120, "notes": [{"pitch": 60, "start_s": 0.0, "end_s": 0.5}],
            }  # fmt: skip
            items.append({
                "source": source, "domain": domain, "kind": "sentences" if domain == "speech" else "melody",
                "text": "hello" if domain == "speech" else "C4", "split": ("train", "test")[number], "offset": offset,
                "length": len(clip), "clip": hash_clip(clip), **known,
            })  # fmt: skip
    write_index(corpus, items, sample_rate_hz=RATE_HZ, licences={"ann": "ours", "flute": "ours"}, seed=0)
    (spoken / "audio").mkdir(parents=True)
    lines, heard = [], []
    for key, clip in enumerate(clips[:2]):
        soundfile.write(spoken / "audio" / f"{key}.flac", clip, RATE_HZ)
        lines.append({
            "key": key, "audio": f"audio/{key}.flac", "kind": "sentences", "split": "train", "voice": "heart",
            "text": "hello", "words": [["hello", 0.0, 0.5]], "duration_s": 0.5,
            "phonemes": [["hh", 0.1, 0], ["ah0", 0.1, 0], ["l", 0.1, 0], ["ow1", 0.2, 0]],
        })  # fmt: skip
        heard.append({"key": key, "heard": "hello", "by": "tiny.en", "word_errors": 0, "words": 1,
                      "phoneme_errors": 0.0, "left_out": ""})  # fmt: skip
    for name, objects in (("clips.jsonl", lines), ("heard.jsonl", heard)):
        (spoken / name).write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
