"""Differences between TensorRT-RTX and TensorRT. The latter is a stand-in here: the real one needs a GPU."""

from __future__ import annotations

import sys
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unimoe_export.engines import flavours
from unimoe_export.engines.flavours import Toolkit
from unimoe_runtime.errors import BackendError, EngineError
from unimoe_runtime.hardware.probes import Gpu, Gpus


class _TypedFlag(IntEnum):
    STRONGLY_TYPED = 1


class _OtherFlag(IntEnum):
    PREFER_JIT_PYTHON_PLUGINS = 2


class _Logger:
    pass


def stand_in(monkeypatch: pytest.MonkeyPatch, version: str, flags: Any = _TypedFlag) -> None:
    module = SimpleNamespace(__version__=version, ILogger=_Logger, NetworkDefinitionCreationFlag=flags)
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


def test_networks_are_strongly_typed_on_10_and_on_11(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = SimpleNamespace(create_network=lambda flags: flags)
    stand_in(monkeypatch, "10.16.1")
    assert Toolkit("tensorrt").create_network(builder) == 1 << _TypedFlag.STRONGLY_TYPED
    stand_in(monkeypatch, "11.4.0", _OtherFlag)
    assert Toolkit("tensorrt").create_network(builder) == 0


def test_timings_are_kept_between_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, "10.16.1")
    toolkit, file = Toolkit("tensorrt"), tmp_path / "timings"
    seen = []
    config = SimpleNamespace(
        create_timing_cache=lambda content: content,
        set_timing_cache=lambda cache, ignore_mismatch: seen.append(cache),
        get_timing_cache=lambda: SimpleNamespace(serialize=lambda: memoryview(b"timings")),
    )
    toolkit.aim(config, [(8, 7)], file)
    toolkit.keep_timings(config, file)
    toolkit.aim(config, [(8, 7)], file)
    assert seen == [b"", b"timings"]


def test_tensorrt_rtx_knows_its_gpus() -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    toolkit = flavours.open_flavour("tensorrt-rtx")
    toolkit.require_machine([(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)])
    for capability in ((8, 7), (9, 0), (10, 0)):
        with pytest.raises(EngineError, match="does not build for compute capability"):
            toolkit.require_machine([capability])
