"""Routing recorded on this machine, by task and step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config
from tests.routing_records import record
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.bundle.routing_statistics import (
    bundled_activation,
    parse_activation,
    read_activation,
)
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_tools.planning.recording import record_routing


def test_activation_of_a_run_and_of_a_profile(tiny_bundle: Path, tmp_path: Path) -> None:
    found = record_routing(tiny_bundle, steps=20)
    activation = parse_activation(found, open_bundle(tiny_bundle).model, "here")
    assert 0 < activation.mean <= 8
    assert (activation.launched_LK @ np.arange(5)).sum() == pytest.approx(activation.mean, rel=1e-3)
    (tmp_path / "routing.json").write_text(json.dumps(found))
    report = {"format": "unimoe-profile", "runs": [{"setting": {"rows": 2}, "tasks": found["tasks"]}]}
    (tmp_path / "profile.json").write_text(json.dumps(report))
    for name in ("routing.json", "profile.json"):
        assert read_activation(tmp_path / name, open_bundle(tiny_bundle).model).mean == activation.mean
    (tmp_path / "broken.json").write_text("[]")
    with pytest.raises(ConfigError, match="broken"):
        read_activation(tmp_path / "broken.json", tiny_config())


def test_the_manifest_may_hold_the_record(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    assert bundled_activation(open_bundle(copy)) is None
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "routing_statistics": record()}))
    found = bundled_activation(open_bundle(copy))
    assert found is not None and found.mean == pytest.approx(3.5)
    (copy / "manifest.json").write_text(json.dumps({**manifest, "routing_statistics": record(layers=3)}))
    with pytest.raises(BundleError, match="recorded from another model"):
        bundled_activation(open_bundle(copy))
