"""The sequence network in torch against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from unimoe.training.sequence_network import TorchSequenceNetwork, write_network
from unimoe_runtime.frontend.sequence_network import SequenceNetwork, SequenceNetworkConfig

CONFIG = SequenceNetworkConfig(tables=(7, 3), channels=8, taps=5, dilations=(1, 2, 1), outputs=4)


def test_numpy_computes_what_torch_computes_also_beside_padding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TorchSequenceNetwork(CONFIG, dropout=0.5).eval()
    long, short = ([1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 1, 2]), ([3, 1, 2], [2, 2, 0])
    ids = tuple(torch.tensor([long[at], [*short[at], 0, 0, 0]]) for at in range(2))
    made_BPO = network(ids, torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])).detach().numpy()
    plain = network.to_numpy()
    np.testing.assert_allclose(plain(*long), made_BPO[0], atol=1e-5)
    np.testing.assert_allclose(plain(*short), made_BPO[1, :3], atol=1e-5)
    write_network(plain, tmp_path / "net.safetensors")
    np.testing.assert_allclose(
        SequenceNetwork.read(tmp_path / "net.safetensors", CONFIG)(*long), made_BPO[0], atol=2e-2
    )
