"""The whole benchmark of quantization runs on a tiny bundle, without Model Optimizer."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quantization_peers import TITLES, columns, markdown, modelopt_backends, random_samples, run
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.data import ItemReader, read_data
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import Bundle, open_bundle

OURS = ["ours", "largest value, random data", "largest value, our data"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    config = tiny_config(hidden_size=32, num_layers=1, num_routed_experts=2)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "bundle")
    return open_bundle(folder / "bundle")


def test_runs(bundle: Bundle) -> None:
    result = run(Namespace(bundle=bundle.path, modelopt=None, items=2, threads=None))
    assert [row["peer"] for row in result["peers"]] == OURS
    assert all(row["kl_nats"] > 0 and row["graphs"] == 4 for row in result["peers"])
    assert len(columns(result["peers"][0])) == len(TITLES)
    assert markdown(result).count("\n") == 2 + 1 + len(OURS)


def test_random_samples_keep_their_shape(bundle: Bundle) -> None:
    with ItemReader(bundle) as reader:
        [sample] = [reader.read(item) for item in read_data(None, bundle).items[:1]]
    [drawn] = random_samples([sample], bundle)
    assert drawn.prompt.text_ids_BT.shape == sample.prompt.text_ids_BT.shape
    assert drawn.prompt.codec_ids_PK is not None and sample.prompt.codec_ids_PK is not None
    assert not np.array_equal(drawn.prompt.codec_ids_PK, sample.prompt.codec_ids_PK)


def test_a_failing_model_optimizer_ends_in_one_line(bundle: Bundle, tmp_path: Path) -> None:
    with ItemReader(bundle) as reader:
        samples = [reader.read(item) for item in read_data(None, bundle).items[:1]]
    with pytest.raises(SystemExit, match=r"modelopt_graphs\.py"):
        modelopt_backends(Path("/bin/false"), bundle, open_backend("onnxruntime", bundle), samples, tmp_path)
    with np.load(tmp_path / "layers.0.expert.0.npz") as recorded:
        assert (recorded["0/weight_N1"] > 0).all(), "an expert is calibrated on the rows that were sent to it"
