from __future__ import annotations

from pathlib import Path

import numpy as np

from unimoe_export.graphs.sequence import sequence_graph
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.frontend.sequence_network import SequenceNetwork, SequenceNetworkConfig


def test_the_graph_computes_what_numpy_computes(tmp_path: Path) -> None:
    config = SequenceNetworkConfig(tables=(9, 2), channels=6, taps=5, dilations=(1, 3), outputs=2)
    rng = np.random.default_rng(1)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in config.shapes().items()}
    path = tmp_path / "net.safetensors"
    write_tensors(path, config.shapes(), lambda name: [tensors[name]], dict.fromkeys(config.shapes(), "F16"))
    builder = sequence_graph(config, path, ("symbols_P", "voices_P"), "scores_PO")
    builder.save(tmp_path / "net.onnx")
    network = SequenceNetwork.read(path, config)
    session = open_session(tmp_path / "net.onnx")
    for length in (1, 2, 17):
        symbols, voices = rng.integers(0, 9, length), rng.integers(0, 2, length)
        (made_PO,) = session.run(None, {"symbols_P": symbols, "voices_P": voices})
        np.testing.assert_allclose(made_PO, network(symbols.tolist(), voices.tolist()), atol=1e-4)
