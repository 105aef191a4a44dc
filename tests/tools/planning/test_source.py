"""Valid and invalid sources of a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.published_folder import published_config
from unimoe.cli.plan import plan
from unimoe_runtime.bundle.routing_statistics import (
    assumed_activation,
)
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.hardware.targets import find_target
from unimoe_tools.planning.plan import make_plan
from unimoe_tools.planning.source import open_source


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(published_config()))
    return tmp_path


def test_what_cannot_be_planned_is_one_line(published: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither a bundle's manifest\.json nor a config\.json"):
        open_source(tmp_path.parent)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CheckpointError, match="neither a checkpoint's configuration"):
        open_source(tmp_path / "other.json")
    source = open_source(published)
    with pytest.raises(ConfigError, match="fp8 is not one that t4 has"):
        make_plan(source, assumed_activation(source.model), [find_target("t4")], precision="fp8")
    with pytest.raises(ConfigError, match="no target 'moon'"):
        CliRunner().invoke(plan, [str(published), "--target", "moon"], catch_exceptions=False)
