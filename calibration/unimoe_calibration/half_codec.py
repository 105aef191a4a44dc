"""A codec decoder with weights stored in 16 bits, and how much that changes the audio.

Products stay in float32: each weight is cast when the graph is loaded, so only the file becomes smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unimoe_runtime.audio.log_mel import spectral_distance_db
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.bundle.manifest import DECODER
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.model.generation import collect_frames, generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.sample_requests import limit_steps, standard_requests

from .graphs import GraphSurgery

HARMLESS_DB = 0.25
"""Log-mel distance that counts as harmless: a quarter of 1 dB, about the smallest audible change of level."""
_STEPS, _REQUESTS = 80, 2


@dataclass(frozen=True, kw_only=True)
class HalfCodec:
    """Files that replace the decoder's, by their names in the bundle. `distance_db`: between the audio of both
    decoders; `signal_to_noise_db`: the new audio's, with the old audio as the signal."""

    files: dict[str, Path]
    distance_db: float
    signal_to_noise_db: float

    @property
    def is_harmless(self) -> bool:
        return self.distance_db <= HARMLESS_DB


def halve_codec(bundle: Bundle, folder: Path) -> HalfCodec:
    """Write the decoder with weights in 16 bits under `folder`, and decode the bundle's own answers with both.

    Raises BundleError where the bundle has no readable decoder.
    """
    info = bundle.graph(DECODER)
    path = folder / info.file
    surgery = GraphSurgery(bundle.path / info.file)
    surgery.store_in_half(bundle.weights(DECODER))
    surgery.save(path)
    files = {info.file: path, info.weights: path.with_suffix(".safetensors")}
    return _measured(bundle, path, files)


def _measured(bundle: Bundle, decoder: Path, files: dict[str, Path]) -> HalfCodec:
    session = open_session(decoder)
    names = [output.name for output in session.get_outputs()]

    def run_half(graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    backend = open_backend("onnxruntime", bundle)
    distances, noise, signal = [], 0.0, 0.0
    try:
        codecs = [BundleCodec(bundle.codec or {}, run) for run in (backend.run, run_half)]
        for seed, request in enumerate(standard_requests(bundle)[:_REQUESTS]):
            sampling = limit_steps(request, _STEPS, bundle.model)
            made = generate(BundleModel(backend), request.prompt, bundle.model, sampling, seed=seed)
            codes_KT = collect_frames(list(made))[0].T
            whole_L, half_L = (codec.decode(codes_KT) for codec in codecs)
            distances.append(spectral_distance_db(whole_L, half_L, codecs[0].sample_rate_hz))
            noise += float(np.square(whole_L - half_L).sum())
            signal += float(np.square(whole_L).sum())
    finally:
        backend.close()
    ratio = 10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30))
    return HalfCodec(files=files, distance_db=float(np.mean(distances)), signal_to_noise_db=float(ratio))
