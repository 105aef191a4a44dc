"""The network over letters or phonemes, computed term by term, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.frontend.sequence_network import SequenceNetwork, SequenceNetworkConfig

CONFIG = SequenceNetworkConfig(tables=(5, 2), channels=3, taps=3, dilations=(1, 2), outputs=2)


def random_network(seed: int = 0) -> SequenceNetwork:
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in CONFIG.shapes().items()}
    return SequenceNetwork(config=CONFIG, tensors=tensors)


def test_it_computes_what_it_says_it_computes() -> None:
    network = random_network()
    t = network.tensors
    ids, others = [1, 4, 2, 2], [0, 1, 1, 0]
    x = t["table.0"][ids] + t["table.1"][others]

    def norm(values: np.ndarray, name: str) -> np.ndarray:
        return values / np.sqrt((values**2).mean(axis=-1, keepdims=True) + 1e-5) * t[name]

    for at, dilation in enumerate(CONFIG.dilations):
        inner = np.maximum(norm(x, f"block.{at}.norm"), 0)
        made = np.zeros_like(x)
        for p in range(4):
            for k in range(3):
                source = p + (k - 1) * dilation
                if 0 <= source < 4:
                    made[p] += t[f"block.{at}.kernel"][:, :, k] @ inner[source]
        x = x + made + t[f"block.{at}.bias"]
    np.testing.assert_allclose(network(ids, others), norm(x, "norm") @ t["head"] + t["bias"], rtol=1e-4, atol=1e-5)


def test_a_file_must_fit_its_sizes(tmp_path: Path) -> None:
    network = random_network()
    path = tmp_path / "net.safetensors"
    write_tensors(path, CONFIG.shapes(), lambda name: [network.tensors[name]])
    again = SequenceNetwork.read(path, CONFIG)
    np.testing.assert_array_equal(again([1, 2], [0, 1]), network([1, 2], [0, 1]))
    other = SequenceNetworkConfig.from_dict({**CONFIG.to_dict(), "channels": 4})
    with pytest.raises(BundleError, match=r"tensor 'table\.0' is missing or not of shape \[5, 4\]"):
        SequenceNetwork.read(path, other)
    with pytest.raises(ConfigError, match="taps is 2; it must be an odd number"):
        SequenceNetworkConfig.from_dict({**CONFIG.to_dict(), "taps": 2})
