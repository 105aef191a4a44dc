"""Routing recorded on this machine, by task and step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.bundle.routing_statistics import (
    bundled_activation,
    parse_activation,
    read_activation,
)
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_tools.planning.recording import record_routing


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planning")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "tiny")
    return folder / "tiny"


def record(layers: int = 2, routed: int = 4, rows: int = 2) -> dict[str, Any]:
    """Two tasks: one expert runs in the first, two run in the second, which is three times as long."""
    one = [[0, 10] + [0] * (routed - 1)] * layers
    two = [[0, 0, 30] + [0] * (routed - 2)] * layers
    return {
        "rows": rows,
        "tasks": {
            "speech": {"steps": 10, "launched_histogram": one, "launch_share": [[1.0] + [0.0] * (routed - 1)] * layers},
            "music": {"steps": 30, "launched_histogram": two, "launch_share": [[1.0, 1.0] + [0.0] * (routed - 2)] * 2},
        },
    }


def test_activation_of_a_run_and_of_a_profile(tiny: Path, tmp_path: Path) -> None:
    found = record_routing(tiny, steps=20)
    activation = parse_activation(found, open_bundle(tiny).model, "here")
    assert 0 < activation.mean <= 8
    assert (activation.launched_LK @ np.arange(5)).sum() == pytest.approx(activation.mean, rel=1e-3)
    (tmp_path / "routing.json").write_text(json.dumps(found))
    report = {"format": "unimoe-profile", "runs": [{"setting": {"rows": 2}, "tasks": found["tasks"]}]}
    (tmp_path / "profile.json").write_text(json.dumps(report))
    for name in ("routing.json", "profile.json"):
        assert read_activation(tmp_path / name, open_bundle(tiny).model).mean == activation.mean
    (tmp_path / "broken.json").write_text("[]")
    with pytest.raises(ConfigError, match="broken"):
        read_activation(tmp_path / "broken.json", tiny_config())


def test_the_manifest_may_hold_the_record(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    assert bundled_activation(open_bundle(copy)) is None
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "routing_statistics": record()}))
    found = bundled_activation(open_bundle(copy))
    assert found is not None and found.mean == pytest.approx(3.5)
    (copy / "manifest.json").write_text(json.dumps({**manifest, "routing_statistics": record(layers=3)}))
    with pytest.raises(BundleError, match="recorded from another model"):
        bundled_activation(open_bundle(copy))
