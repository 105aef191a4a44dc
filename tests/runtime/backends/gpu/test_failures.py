"""Errors of an engine's library are one line that names the graph."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.backends.gpu.opened import Opened, decoded
from tests.runtime.host_device import HostDevice
from tests.runtime.stand_in_tensorrt import Context, Engine, write_engine_set
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.onnxruntime_engines import OnnxRuntimeEngines
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.errors import BackendError


def test_an_engine_that_fails_is_named_in_one_line_and_leaves_nothing(bundle: Bundle) -> None:
    write_engine_set(bundle)
    opened = Opened(bundle)
    model = decoded(opened.backend, 1)[1]
    for graph in ("head", "layers.1.trunk"):
        opened.trt.fails_at = graph
        opened.backend.tally.captures.clear()
        with pytest.raises(BackendError, match=f"^{graph}: .*illegal memory access$"):
            opened.backend.run(graph, inputs_of(bundle, graph))
    opened.trt.fails_at = None
    model.step(np.zeros((2, 2), np.int64), np.zeros(2, np.float32))
    opened.backend.close()
    assert not opened.device.num_allocated


@pytest.mark.parametrize("error", [RuntimeError("no kernel\nin a fusion"), ValueError(""), TypeError("incompatible")])
def test_an_exception_of_the_library_is_one_line_with_the_graph(
    bundle: Bundle, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of TensorRT's calls, and while ONNX Runtime binds and runs."""
    write_engine_set(bundle)

    def fails(*_: object) -> None:
        raise error

    reason = str(error).split("\n")[0] or "ValueError"
    for owner, call in (
        (Context, "execute_async_v3"), (Context, "set_input_shape"), (Context, "set_tensor_address"),
        (Context, "set_device_memory"), (Engine, "__init__"), (Engine, "get_tensor_name"),
    ):  # fmt: skip
        opened = Opened(bundle)
        with monkeypatch.context() as patched:
            patched.setattr(owner, call, fails)
            for graph in ("head", "layers.0.expert.0"):
                with pytest.raises(BackendError, match=f"^{graph}: tensorrt.* cannot run it: {reason}$"):
                    opened.backend.run(graph, inputs_of(bundle, graph))
            with pytest.raises(BackendError, match=rf"^[a-z0-9.]+: tensorrt.* cannot run it: {reason}$"):
                decoded(opened.backend, 1)
        opened.backend.close()
    engines = OnnxRuntimeEngines(bundle, device := HostDevice(eager=True), pool := Pool(device), graphs=False)
    for call in ("_binding", "_session"):
        with monkeypatch.context() as patched:
            patched.setattr(engines, call, fails)
            with pytest.raises(BackendError, match=f"^head: ONNX Runtime cannot run it: {reason}$"):
                engines.run("head", inputs_of(bundle, "head"))
    engines.close()
    pool.close()
    device.close()


def inputs_of(bundle: Bundle, graph: str) -> dict[str, np.ndarray]:
    sizes = {"B": 1, "T": 2, "N": 2, "S": 8, "Q": 2 * bundle.model.queries_per_key}
    return {
        value.name: np.zeros([sizes[d] if isinstance(d, str) else d for d in value.shape], value.dtype)
        for value in bundle.graphs[graph].inputs
    }
