"""Observed values are the inputs of the products; tokens are counted for the experts that the router picked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.data import ItemReader, Sample, read_data
from unimoe_calibration.observation import InputObserver
from unimoe_calibration.statistics import NEAREST, Linear, Statistics, linears
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.numpy.ops import rms_norm, swiglu
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.errors import CalibrationError
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.synthesis.language_model import BundleModel


@pytest.fixture(scope="module")
def samples(bundle: Bundle) -> list[Sample]:
    with ItemReader(bundle) as reader:
        return [reader.read(item) for item in read_data(None, bundle).items]


def weights(bundle: Bundle, graph: str) -> dict[str, np.ndarray]:
    file = bundle.weights(graph)
    return {name: file.float32(name) for name in file.entries}


class Calls(WrappedBackend):
    """The oracle, with a record of every call."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(open_backend("numpy", bundle), by_graph=True)
        self.calls: list[tuple[str, dict[str, Array]]] = []

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.calls.append((graph, {name: array.copy() for name, array in inputs.items()}))
        return super().run(graph, inputs)


def test_every_product_is_watched(bundle: Bundle, samples: list[Sample]) -> None:
    """Largest values by channel, and rows, of each kind of input equal those of the oracle's pass over the samples."""
    statistics = Statistics.empty(bundle.model)
    observer = InputObserver(bundle, statistics)
    observer.observe(samples[:2])
    observer.observe(samples[2:])
    expected: dict[Linear, list[np.ndarray]] = {linear: [] for linear in linears(bundle.model)}
    picks_LE = np.zeros((2, bundle.model.num_dynamic_experts), np.int64)
    for sample in samples:
        oracle = Calls(bundle)
        weights_LNE: list[np.ndarray] = []

        def keep(layer: int, logits_NR: Array, weights_NE: Array, to: list[np.ndarray] = weights_LNE) -> None:
            to.append(weights_NE.copy())

        model = BundleModel(oracle, observer=keep)
        model.prefill(sample.prompt)
        real_N = sample.prompt.mask_BT.reshape(-1)
        length = sample.prompt.text_ids_BT.shape[1]
        tokens = np.arange(2)[:, None] * length + np.arange(length - sample.num_rows, length)
        model.logits(tokens.ravel())
        for layer in range(2):
            picks_LE[layer] += (weights_LNE[layer] > 0).sum(axis=0)
        for graph, given in oracle.calls:
            own = weights(bundle, graph)
            if graph.endswith("trunk"):
                hidden_NC = given["hidden_BTC"].reshape(-1, bundle.model.hidden_size)
                normed = rms_norm(hidden_NC, own["attention_norm.weight"], bundle.model.rms_norm_eps)
                expected[Linear(graph, "qkv.weight")].append(normed[real_N])
            elif graph == "head":
                normed = rms_norm(given["hidden_NC"], own["norm.weight"], bundle.model.rms_norm_eps)
                expected[Linear(graph, "head.weight")].append(normed)
            else:
                x = given["expert_input_NC"][given["weight_N1"][:, 0] > 0]
                expected[Linear(graph, "gate_up.weight")].append(x)
                expected[Linear(graph, "down.weight")].append(swiglu(x @ own["gate_up.weight"]))
    checked = 0
    for linear, rows in expected.items():
        if rows:
            rows_NC, total = np.concatenate(rows), statistics.linears[linear].total()
            assert total.num_rows == len(rows_NC), linear
            np.testing.assert_allclose(total.channel_max_C, np.abs(rows_NC).max(axis=0), rtol=1e-3, err_msg=str(linear))
            checked += 1
    assert checked == 2 * (1 + 2 * 4) + 1
    assert all(seen.num_rows for linear, seen in statistics.linears.items() if linear.graph.endswith("trunk"))
    np.testing.assert_array_equal(sum(statistics.tokens.values()), picks_LE)
    assert statistics.num_tokens.keys() == {"speech", "music"}


def test_near_misses_are_rows_that_the_router_nearly_sent(bundle: Bundle, samples: list[Sample]) -> None:
    statistics = Statistics.empty(bundle.model)
    observer = InputObserver(bundle, statistics, near_misses=16)
    observer.observe(samples)
    kept = observer.near_misses[0, 1]
    assert kept.rows_MC.shape == (16, bundle.model.hidden_size) and kept.probability_M.min() > 0
    before = statistics.linears[Linear("layers.0.expert.1", "down.weight")].num_rows
    observer.observe_near_misses(0, 1, 10)
    seen = statistics.linears[Linear("layers.0.expert.1", "down.weight")]
    assert seen.domains[NEAREST].num_rows == 10 and seen.num_rows == before + 10


def test_values_that_are_no_numbers_name_their_graph(tmp_path: Path) -> None:
    config = tiny_config()
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", config)
    export_bundle(checkpoint, tmp_path / "sound")
    sound = open_bundle(tmp_path / "sound")
    with ItemReader(sound) as reader:
        samples = [reader.read(item) for item in read_data(None, sound).items[:2]]
    file = TensorFile(checkpoint / "model.safetensors")
    entry = file.entries["layers.1.moe.experts.2.down_proj.weight"]
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    # Finite weights whose products overflow.
    count = entry.num_bytes // 4
    content[entry.offset : entry.offset + 4 * count] = np.full(count, 3e38, np.float32).tobytes()
    (checkpoint / "model.safetensors").write_bytes(content)
    export_bundle_unchecked(checkpoint, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    with pytest.raises(CalibrationError, match=r"layers\.1\.expert\.2 computes values that are not numbers \(random"):
        InputObserver(bundle, Statistics.empty(config)).observe(samples)


def export_bundle_unchecked(checkpoint: Path, bundle: Path) -> None:
    """An export that does not notice the damage, because it skips the check of graphs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unimoe_export.exporter.engine_available", lambda: False)
        export_bundle(checkpoint, bundle)


def test_a_sample_is_the_bundle_s_own_audio_again(bundle: Bundle) -> None:
    items = read_data(None, bundle).items
    with ItemReader(bundle, seed=3) as reader:
        first, again = reader.read(items[0]), reader.read(items[0])
    with ItemReader(bundle, seed=4) as reader:
        other = reader.read(items[0])
    assert first.num_rows > 2 and first.prompt.codec_ids_PK is not None
    np.testing.assert_array_equal(first.prompt.codec_ids_PK, again.prompt.codec_ids_PK)
    assert other.prompt.codec_ids_PK is not None
    assert other.num_rows != first.num_rows or not np.array_equal(other.prompt.codec_ids_PK, first.prompt.codec_ids_PK)
