"""Makes a corpus of the clips of a speech folder that the judge accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe.data.corpus import INDEX, Corpus, hash_clip, to_int16, write_audio, write_index
from unimoe.data.kokoro import SAMPLE_RATE_HZ
from unimoe.data.loudness import normalise_loudness
from unimoe.data.sources import get_source
from unimoe.data.speaking import read_heard, require_clips
from unimoe_runtime.audio.files import read_audio
from unimoe_runtime.errors import OutputError

SOURCE: Final = "kokoro"


def gather_clips(folder: Path, out: Path, *, sample_rate_hz: int, only_heard: bool = True) -> Corpus:
    """Write the corpus `out` at `sample_rate_hz`.

    `only_heard`: also leave out clips that the judge has not heard yet. Rejected clips are always left out. Raises
    OutputError where nothing is left.
    """
    verdicts = {line["key"]: line["left_out"] for line in read_heard(folder)}
    audio: list[np.ndarray] = []
    items: list[dict[str, Any]] = []
    for clip in require_clips(folder):
        if "audio" not in clip or verdicts.get(clip["key"], "not heard" if only_heard else ""):
            continue
        pcm_L = read_audio(folder / clip["audio"], sample_rate_hz)
        if sample_rate_hz != SAMPLE_RATE_HZ:
            pcm_L = normalise_loudness(pcm_L)
        audio.append(to_int16(pcm_L))
        ends_s = np.cumsum([duration_s for _, duration_s, _ in clip["phonemes"]])
        items.append(
            {
                "source": SOURCE, "domain": "speech", "kind": clip["kind"], "text": clip["text"],
                "split": clip["split"], "voice": clip["voice"],
                "phonemes": [[clip["phonemes"][at][0], round(float(end_s), 4)] for at, end_s in enumerate(ends_s)],
                "word_numbers": [word for _, _, word in clip["phonemes"]],
                "clip": hash_clip(audio[-1]),
            }
        )  # fmt: skip
    if not items:
        raise OutputError(f"{folder} has no clip that the judge let pass: run `unimoe data hear {folder}` first")
    out.mkdir(parents=True, exist_ok=True)
    (out / INDEX).unlink(missing_ok=True)  # an old index does not describe the new audio
    offsets = write_audio(out / f"{SOURCE}.npy", audio)
    for item, offset, samples_L in zip(items, offsets, audio, strict=True):
        item |= {"offset": offset, "length": len(samples_L)}
    source = get_source(SOURCE)
    write_index(
        out,
        items,
        sample_rate_hz=sample_rate_hz,
        licences={SOURCE: f"{source.name}: {source.licence}"},
        seed=0,
        details={SOURCE: source.to_dict()},
    )
    return Corpus.open(out)
