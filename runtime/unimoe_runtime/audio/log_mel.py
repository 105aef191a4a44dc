"""Log-mel spectra, and the distance between two of them.

Shape suffixes: L samples, T frames, N window, F frequency bins, M mel bands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUM_BANDS = 40
LOWEST_BAND_HZ = 80.0
_WINDOW_S = 0.032
_HOP_S = 0.016
_RANGE_DB = 60.0  # levels further below the loudest one are raised to this floor: all silence is equal
_DB = 10 / np.log(10)

Doubles = NDArray[np.float64]


def log_mel(
    pcm_L: NDArray[np.floating[Any]], sample_rate_hz: int, *, num_bands: int = _NUM_BANDS, window_s: float = _WINDOW_S
) -> Doubles:
    """Natural logarithm of the power in mel bands every 16 ms, log_mel_TM; it has at least one frame."""
    window, hop = round(window_s * sample_rate_hz), round(_HOP_S * sample_rate_hz)
    padded_L = np.pad(np.asarray(pcm_L, np.float64), (0, max(0, window - len(pcm_L))))
    frames_TN = np.lib.stride_tricks.sliding_window_view(padded_L, window)[::hop]
    power_TF = np.abs(np.fft.rfft(frames_TN * np.hanning(window))) ** 2
    mel_TM = power_TF @ _mel_bands(window, sample_rate_hz, num_bands).T
    log_mel_TM: Doubles = np.log(mel_TM + 1e-8)
    return log_mel_TM


def spectral_distance_db(
    first_L: NDArray[np.floating[Any]], second_L: NDArray[np.floating[Any]], sample_rate_hz: int
) -> float:
    """Log-spectral distance: root mean square over mel bands, mean over frames; the shorter is padded with silence.

    Levels more than 60 dB below the loudest band of either are raised to that floor.
    """
    length = max(len(first_L), len(second_L))
    spectra = [log_mel(np.pad(pcm_L, (0, length - len(pcm_L))), sample_rate_hz) for pcm_L in (first_L, second_L)]
    floor = max(float(spectrum.max()) for spectrum in spectra) - _RANGE_DB / _DB
    first_TM, second_TM = (np.maximum(spectrum, floor) for spectrum in spectra)
    return float(_DB * np.sqrt(np.square(first_TM - second_TM).mean(axis=1)).mean())


def mel_of_hz(frequency_hz: float) -> float:
    """A frequency in mel (O'Shaughnessy 1987)."""
    return float(2595 * np.log10(1 + frequency_hz / 700))


def _mel_bands(window: int, sample_rate_hz: int, num_bands: int) -> Doubles:
    """Triangular bands evenly spaced in mel (O'Shaughnessy 1987), bands_MF."""
    low, high = mel_of_hz(LOWEST_BAND_HZ), mel_of_hz(sample_rate_hz / 2)
    edges_hz = 700 * (10 ** (np.linspace(low, high, num_bands + 2) / 2595) - 1)
    bins_hz = np.fft.rfftfreq(window, 1 / sample_rate_hz)
    left_M1, centre_M1, right_M1 = (edges_hz[at : at + num_bands, None] for at in range(3))
    rising_MF = (bins_hz - left_M1) / (centre_M1 - left_M1)
    falling_MF = (right_M1 - bins_hz) / (right_M1 - centre_M1)
    bands_MF: Doubles = np.maximum(0, np.minimum(rising_MF, falling_MF))
    return bands_MF
