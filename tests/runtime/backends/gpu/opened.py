"""The device loop on a stand-in device in host memory, over either kind of engine."""

from __future__ import annotations

import numpy as np

from tests.runtime.host_device import HostDevice
from tests.runtime.stand_in_tensorrt import StandInTensorRT
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.onnxruntime_engines import OnnxRuntimeEngines
from unimoe_runtime.backends.gpu.tensorrt_engines import TensorRTEngines
from unimoe_runtime.backends.numpy.backend import NumpyBackend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.engine_sets import open_engines
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel

STEPS = 12


PROMPT = Prompt.from_rows([[1, 2, 3], [4, 5, 6, 7, 8, 9, 10]], paired=True)


class Opened:
    """A backend, and its device for inspection."""

    def __init__(self, bundle: Bundle, *, graphs: bool = True, refuses_capture: bool = False) -> None:
        self.device = HostDevice(refuses_capture=refuses_capture)
        self.trt = StandInTensorRT(bundle, self.device, NumpyBackend(bundle).run)
        pool = Pool(self.device)
        engine_set = open_engines(bundle)
        self.engines = TensorRTEngines(bundle, engine_set, self.device, pool, self.trt, graphs=graphs)
        self.backend = DeviceBackend("tensorrt", bundle, self.device, pool, self.engines)


def over_onnxruntime(bundle: Bundle) -> DeviceBackend:
    device = HostDevice(eager=True)
    pool = Pool(device)
    return DeviceBackend(
        "onnxruntime-cuda", bundle, device, pool, OnnxRuntimeEngines(bundle, device, pool, graphs=True)
    )


def decoded(backend: Backend, steps: int = STEPS, prompt: Prompt = PROMPT) -> tuple[np.ndarray, BundleModel]:
    """Logits of the prompt's tokens and of each step under teacher forcing."""
    model = BundleModel(backend)
    model.prefill(prompt)
    found = [model.logits(np.flatnonzero(prompt.mask_BT.reshape(-1))).ravel()]
    rng = np.random.default_rng(0)
    for index in range(steps):
        codes_BK = rng.integers(backend.bundle.model.codebook_size, size=(prompt.num_rows, 2))
        found.append(model.step(codes_BK, prompt.first_position_B + np.float32(index)).ravel())
    return np.concatenate(found), model
