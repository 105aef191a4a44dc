"""A corpus of one word and one note, and a recipe that trains on it in seconds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unimoe.data.corpus import write_audio, write_index
from unimoe.data.melodies import Note

RATE_HZ = 16000
RECIPE = """
[data]
folder = "{folder}/corpus"
[codec]
num_steps = 3
warmup_steps = 1
codebooks_from_step = 1
batch_size = 2
segment_frames = 24
[codec.shape]
width = 24
intermediate_size = 32
num_encoder_blocks = 1
num_decoder_blocks = 1
latent_size = 8
num_codebooks = 3
codebook_size = 16
num_bands = 40
[frontend]
[model]
hidden_size = 16
num_layers = 1
num_heads = 2
num_kv_heads = 1
head_dim = 8
routed_intermediate_size = 8
shared_intermediate_size = 8
delay_pattern = [0, 1, 1]
[train]
num_steps = 2
warmup_steps = 1
batch_size = 4
num_threads = 1
guide_layers = [0]
bfloat16 = true
[sampling.speech]
temperature = 0.1
[sampling.music]
temperature = 0.4
"""
DECODER = """
[decoder]
num_steps = 3
warmup_steps = 1
batch_size = 2
segment_frames = 24
music_clips = 2
"""


def write_corpus(folder: Path) -> None:
    """A spoken word and a note, over and over: lengths differ."""
    folder.mkdir()
    items = []
    for source, domain in (("ann", "speech"), ("flute", "music")):
        lengths = range(16000, 17400, 200)
        clips = [0.2 * np.sin(2 * np.pi * 261.6 * np.arange(length) / RATE_HZ) for length in lengths]
        of_domain: dict[str, Any] = {"kind": "words", "text": "cat", "voice": "ann"}
        of_domain["phonemes"] = [["pau", 0.1], ["k", 0.2], ["ae", 0.6], ["t", 0.9], ["pau", 1.0]]
        if domain == "music":
            notes = [asdict(Note(pitch=60, start_s=0.1, end_s=0.6))]
            of_domain = {"kind": "melody", "text": "C4", "instrument": "flute", "tempo_bpm": 120, "notes": notes}
        for number, offset in enumerate(write_audio(folder / f"{source}.npy", clips)):
            split = {5: "valid", 6: "test"}.get(number, "train")
            place = {"source": source, "split": split, "offset": offset, "length": lengths[number]}
            items.append({"domain": domain, **of_domain, **place})
    licences = {"ann": "made here", "flute": "made here"}
    write_index(folder, items, sample_rate_hz=RATE_HZ, licences=licences, seed=0)
