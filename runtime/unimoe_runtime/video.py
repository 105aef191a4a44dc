"""A clip's frames, sampled at a rate and resized as the vision tower wants them.

F frames · H height · W width · C colours (red, green, blue)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """Sampled and resized frames: `frames_FHWC` uint8, RGB; a frame stands for `seconds_per_frame`."""

    frames_FHWC: NDArray[np.uint8]
    seconds_per_frame: float
