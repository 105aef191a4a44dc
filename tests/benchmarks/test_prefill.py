"""The floor of a prefill counts every weight of a product, and each expert's tokens. No timing is asserted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import prefill
from benchmarks.workload import MAX_PICKED, ROWS, model_config, write_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("prefill")
    write_checkpoint(folder / "checkpoint", model_config(128, num_layers=2), text_picks=True)
    export_bundle(folder / "checkpoint", folder / "bundle")
    return open_bundle(folder / "bundle")


def test_every_weight_of_a_product_counts(bundle: Bundle) -> None:
    for graph in language_model_graphs(bundle.model):
        entries = bundle.weights(graph).entries.values()
        assert prefill.weights(bundle, graph) == sum(np.prod(e.shape) for e in entries if len(e.shape) == 2), graph


def test_a_prompt_picks_every_number_of_experts(bundle: Bundle, tmp_path: Path) -> None:
    (row,) = prefill.measure({"tiny": bundle}, [90], None, 1, tmp_path)
    everywhere = np.full((2, MAX_PICKED + 1), ROWS * 90)
    share = row.operations / prefill.operations(bundle, everywhere, 90)
    assert 0.5 < share < 0.9
    assert row.median_ms > 0 and len(row.cells) == len(prefill.HEADINGS)
