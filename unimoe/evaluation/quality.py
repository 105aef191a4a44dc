"""How natural speech sounds (DNSMOS), and how similar it is to its voice's recordings, by published models.

Both models lie in packages of the registry, which are read but never imported, because their other dependencies
(librosa, webrtcvad) are not needed: `pip install --no-deps speechmos resemblyzer`. Similarity also needs torch.

Shape suffixes: L samples, T frames, M mel bands, F frequency bins, P parts, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unimoe.evaluation.installed import Unmeasured, file_of
from unimoe_runtime.install import install_command

RATE_HZ = 16000
DNSMOS_FILE = ("speechmos", "dnsmos_models/sig_bak_ovr.onnx")


class Dnsmos:
    """DNSMOS P.835 (Reddy et al. 2022): predicted opinion scores, 1 to 5, of listeners to speech in noise.

    It does not judge words: fluent nonsense scores well. The constants come from the model's publication.
    """

    _PART_S = 9.01
    # Polynomials from the network's output to opinion scores: signal, background, overall.
    _TO_SCORES = ((-0.08397278, 1.22083953, 0.0052439), (-0.13166888, 1.60915514, -0.39604546),
                  (-0.06766283, 1.11546468, 0.04602535))  # fmt: skip

    def __init__(self) -> None:
        from unimoe_runtime.backends.onnxruntime.sessions import open_session

        self._session: Any = open_session(file_of(*DNSMOS_FILE))

    def __call__(self, pcm_L: np.ndarray) -> tuple[float, float, float]:
        """Signal, background and overall score of mono samples at 16 kHz, which are repeated to 9 seconds."""
        length = int(self._PART_S * RATE_HZ)
        audio_L = np.clip(np.asarray(pcm_L, np.float32), -1, 1)
        audio_L = np.tile(audio_L, -(-length // len(audio_L))) if len(audio_L) < length else audio_L
        starts = range(0, len(audio_L) - length + 1, RATE_HZ)
        said = [self._session.run(None, {"input_1": audio_L[None, start : start + length]})[0][0] for start in starts]
        scores = np.array([[np.polyval(curve, raw) for curve, raw in zip(self._TO_SCORES, part, strict=True)]
                           for part in said])  # fmt: skip
        signal, background, overall = scores.mean(axis=0)
        return float(signal), float(background), float(overall)


class SpeakerEncoder:
    """Generalised end-to-end speaker embeddings (Wan et al. 2018): similar voices have embeddings of similar direction.

    The network and its features are resemblyzer's: 40 mel bands of power every 10 ms, parts of 1.6 seconds, three
    LSTM layers. Pauses are removed by level, whereas resemblyzer uses a voice activity detector.
    """

    _PART, _STEP = 160, 77  # frames: parts of 1.6 s, 1.3 parts a second
    _LOUDNESS_DBFS, _PAUSE_DB = -30.0, 40.0

    def __init__(self) -> None:
        weights = file_of("resemblyzer", "pretrained.pt")
        try:
            import torch
        except ImportError:
            raise Unmeasured(f"torch is not installed: `{install_command('train')}`") from None
        self._torch = torch
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        self._lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self._linear = torch.nn.Linear(256, 256)
        for name, module in (("lstm.", self._lstm), ("linear.", self._linear)):
            module.load_state_dict({key.removeprefix(name): value for key, value in state.items() if name in key})
        self._bands_MF = _slaney_bands(40, 400)

    def embed(self, pcm_L: np.ndarray) -> np.ndarray:
        """A unit vector, embedding_D, of mono samples at 16 kHz."""
        torch = self._torch
        mel_TM = self._mel(self._without_pauses(np.asarray(pcm_L, np.float64)))
        mel_TM = np.pad(mel_TM, ((0, max(0, self._PART - len(mel_TM))), (0, 0)))
        starts = range(0, len(mel_TM) - self._PART + 1, self._STEP)
        parts_PTM = np.stack([mel_TM[start : start + self._PART] for start in starts]).astype(np.float32)
        with torch.inference_mode():
            _, (hidden, _) = self._lstm(torch.from_numpy(parts_PTM))
            embedded_PD = torch.relu(self._linear(hidden[-1])).numpy()
        embedded_PD /= np.linalg.norm(embedded_PD, axis=1, keepdims=True) + 1e-9
        mean_D = embedded_PD.mean(axis=0)
        return np.asarray(mean_D / (np.linalg.norm(mean_D) + 1e-9))

    def _without_pauses(self, pcm_L: np.ndarray) -> np.ndarray:
        level = np.sqrt(np.mean(pcm_L**2)) + 1e-9
        pcm_L = pcm_L * max(1.0, 10 ** (self._LOUDNESS_DBFS / 20) / level)
        window = RATE_HZ * 30 // 1000
        whole_TL = pcm_L[: len(pcm_L) // window * window].reshape(-1, window)
        if not len(whole_TL):
            return pcm_L
        rms_T = np.sqrt(np.mean(whole_TL**2, axis=1))
        return whole_TL[rms_T > rms_T.max() * 10 ** (-self._PAUSE_DB / 20)].ravel()

    def _mel(self, pcm_L: np.ndarray) -> np.ndarray:
        padded_L = np.pad(pcm_L, 200)
        frames_TL = np.lib.stride_tricks.sliding_window_view(padded_L, 400)[::160]
        hann_L = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        return np.abs(np.fft.rfft(frames_TL * hann_L)) ** 2 @ self._bands_MF.T


def _slaney_bands(num_bands: int, window: int) -> np.ndarray:
    """Triangular filters of equal area on Slaney's mel scale (linear to 1 kHz, then logarithmic), bands_MF."""
    step = np.log(6.4) / 27
    highest = 15 + np.log(RATE_HZ / 2 / 1000) / step
    mels = np.linspace(0, highest, num_bands + 2)
    edges_hz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    bins_hz = np.fft.rfftfreq(window, 1 / RATE_HZ)
    left, centre, right = (edges_hz[at : at + num_bands, None] for at in range(3))
    triangles_MF = np.maximum(0, np.minimum((bins_hz - left) / (centre - left), (right - bins_hz) / (right - centre)))
    return np.asarray(triangles_MF * 2 / (right - left))
