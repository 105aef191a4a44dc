"""Sound files of known tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_recording(path: Path, hertz: float, seconds: float = 0.4, rate_hz: int = 22050) -> Path:
    """A stereo file of a sine."""
    time_L = np.arange(int(seconds * rate_hz)) / rate_hz
    tone_L = 0.3 * np.sin(2 * np.pi * hertz * time_L)
    soundfile.write(path, np.stack([tone_L, tone_L], axis=1), rate_hz)
    return path
