"""Differences between TensorRT-RTX and TensorRT. The latter is a stand-in here: the real one needs a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unimoe_export.engines import flavours, polygraphy_library
from unimoe_export.engines.flavours import Toolkit
from unimoe_export.engines.polygraphy_library import load_polygraphy, require_polygraphy
from unimoe_runtime.errors import BackendError, EngineError
from unimoe_runtime.hardware.probes import Gpu, Gpus


class _TypedFlag(IntEnum):
    STRONGLY_TYPED = 1


class _Logger:
    pass


def stand_in(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    module = SimpleNamespace(
        __name__="tensorrt", __version__=version, ILogger=_Logger, NetworkDefinitionCreationFlag=_TypedFlag
    )
    monkeypatch.setitem(sys.modules, "tensorrt", module)


def here(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu) -> None:
    problem = None if gpus else "no driver"
    monkeypatch.setattr(flavours, "gpus_here", lambda: Gpus(cuda=None, gpus=gpus, problem=problem))


def test_what_is_missing_or_too_old_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"tensorrt cannot be loaded .*JetPack 7\.2.*`pip install tensorrt`"):
        Toolkit("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendError, match=r'`pip install .*\[tensorrt-rtx\]"`'):
        Toolkit("tensorrt-rtx")
    for version in ("8.6.2", "10.3.0", "10.14.1.48"):
        stand_in(monkeypatch, version)
        with pytest.raises(BackendError, match=rf"tensorrt {version} does not know .* need 10\.15; .*JetPack"):
            Toolkit("tensorrt")
    for version in ("10.15.1", "10.16.1.11", "11.4.0"):
        stand_in(monkeypatch, version)
        assert Toolkit("tensorrt").version == version


def test_tensorrt_builds_on_the_device_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "10.16.1")
    toolkit = Toolkit("tensorrt")
    here(monkeypatch)
    with pytest.raises(EngineError, match="here is no GPU"):
        toolkit.require_machine([(8, 7)])
    here(monkeypatch, Gpu(name="Orin", compute_capability=(8, 7), memory_bytes=8 << 30, integrated=True))
    toolkit.require_machine([(8, 7)])
    for others in ([(8, 9)], [(8, 7), (8, 9)]):
        with pytest.raises(EngineError, match=r"this one \(Orin\) has compute capability 8\.7"):
            toolkit.require_machine(others)
    assert not toolkit.builds_at_once


def build_with_stand_in(version: str, cache: Path) -> dict[str, Any]:
    """What Polygraphy's loaders ask of a stand-in for tensorrt, in a process of its own: Polygraphy keeps the first
    flavour that a process loads."""
    script = f"""
import json, sys
from pathlib import Path
from tests.export.engines import stand_in_builder
stand_in_builder.__version__ = {version!r}
if {version!r} >= "11":
    stand_in_builder.NetworkDefinitionCreationFlag = stand_in_builder.OtherFlag
sys.modules["tensorrt"] = stand_in_builder
from unimoe_export.engines.flavours import Toolkit
shapes = {{"x": ((1, 4), (2, 4), (8, 4))}}
plan = Toolkit("tensorrt").build(Path("graph.onnx"), [(8, 7)], shapes, Path({str(cache)!r}))
print(json.dumps([bytes(plan).decode(), stand_in_builder.CALLS]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    plan, calls = json.loads(done.stdout)
    assert plan == "plan"
    return dict(calls)


def test_tensorrt_is_asked_for_the_same_engine_on_10_and_on_11(tmp_path: Path) -> None:
    pytest.importorskip("polygraphy")
    cache = tmp_path / "timings"
    for version, flags in (("10.16.1", 1 << 1), ("11.4.0", 0)):
        cache.unlink(missing_ok=True)
        calls = build_with_stand_in(version, cache)
        assert calls["create_network"] == flags  # strongly typed: by a flag on 10, always on 11
        assert calls["parse_from_file"] == "graph.onnx" and calls["set_shape"] == ["x", [1, 4], [2, 4], [8, 4]]
        assert calls["clear_flag"] == "TF32" and "set_flag" not in calls
        assert (calls["profiling_verbosity"], calls["max_aux_streams"]) == ("DETAILED", 0)
        assert calls["decomposable"] is True
        # Timings are kept between builds.
        assert calls["create_timing_cache"] == "" and cache.read_text() == "timings"
        assert build_with_stand_in(version, cache)["create_timing_cache"] == "timings"


def test_a_process_has_one_flavour(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    pytest.importorskip("polygraphy")
    load_polygraphy("tensorrt-rtx")
    stand_in(monkeypatch, "11.4.0")
    with pytest.raises(EngineError, match="has loaded Polygraphy for tensorrt_rtx: start another process for tensorrt"):
        load_polygraphy("tensorrt")


def test_a_build_without_polygraphy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygraphy_library, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"built through Polygraphy, .*`pip install .*\[export\]"):
        require_polygraphy()


def test_tensorrt_rtx_knows_its_gpus() -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    toolkit = flavours.open_flavour("tensorrt-rtx")
    toolkit.require_machine([(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)])
    for capability in ((8, 7), (9, 0), (10, 0)):
        with pytest.raises(EngineError, match="does not build for compute capability"):
            toolkit.require_machine([capability])
