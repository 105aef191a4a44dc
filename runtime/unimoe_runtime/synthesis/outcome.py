"""The figures of a stream of audio.

T frames · K codebooks
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.frontend.prepared import WordTime
from unimoe_runtime.synthesis.routing_counts import RoutingCounts


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The figures of synthesized audio.

    `codes_TK`: the frames of the model. `caption`: the request as the front end understood it. `ended` is False if
    the audio was cut off before the model ended it: by the step limit, by the time limit (`timed_out`), or by the
    caller. `warnings`: parts of the text that were left out. `words`: when each word is spoken. `first_audio_s`: from
    the request to the first chunk. `codec_s` may overlap `decode_s`. `compute_s` is the time from the prefill to the
    last sample, without the reader's own time.
    """

    sample_rate_hz: int
    num_samples: int
    codes_TK: NDArray[np.int64]
    caption: str
    warnings: tuple[str, ...]
    words: tuple[WordTime, ...]
    ended: bool
    timed_out: bool
    first_audio_s: float
    prefill_s: float
    decode_s: float
    codec_s: float
    compute_s: float
    routing: RoutingCounts

    @property
    def audio_s(self) -> float:
        return self.num_samples / self.sample_rate_hz

    @property
    def rtf(self) -> float:
        """Real-time factor: compute seconds per second of audio; below 1 is faster than real time."""
        return self.compute_s / self.audio_s if self.audio_s else float("inf")

    def figures(self) -> dict[str, Any]:
        """The figures as one flat record, for printing and for JSON."""
        return {
            "caption": self.caption,
            "warnings": list(self.warnings),
            "audio_s": self.audio_s,
            "rtf": self.rtf,
            "first_audio_s": self.first_audio_s,
            "prefill_s": self.prefill_s,
            "decode_s": self.decode_s,
            "codec_s": self.codec_s,
            "steps": self.routing.steps,
            "experts_per_step": self.routing.experts_per_step,
            "null_share": self.routing.null_share,
            "ended": self.ended,
            "timed_out": self.timed_out,
        }
