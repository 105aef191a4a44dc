"""Verification of engine sets. The device is ONNX Runtime on the CPU, or a wrapper that damages its outputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from tests.runtime.host_device import HostDevice
from tests.runtime.stand_in_tensorrt import StandInTensorRT, write_engine_set
from tests.speaking_bundle import write_speaking_bundle
from unimoe.cli.group import cli
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.tensorrt_engines import TensorRTEngines
from unimoe_runtime.backends.protocol import Array, Backend
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.engine_sets import (
    EngineRecord,
    EngineSet,
    engine_key,
    open_engines,
    source_sha256,
    write_engines,
)
from unimoe_runtime.bundle.engine_verification import (
    VERIFICATION_JSON,
    Verification,
    engine_warning,
    read_verification,
    write_verification,
)
from unimoe_runtime.bundle.reader import Bundle, open_bundle, trunk_name
from unimoe_runtime.errors import EngineError
from unimoe_tools.parity import engines as verification
from unimoe_tools.parity.engines import verify_engines

LAPTOP = {"gpu": "GeForce RTX 4060", "compute_capability": "8.9", "driver": "580.65", "cuda": "13.0", "system": "Linux"}
MAX_TOKENS = 12
CAPACITIES = (32, 64)


def write_set(bundle: Bundle, folder: Path, precision: str = "float32") -> EngineSet:
    """An engine set of placeholder files: no test here loads them."""
    folder.mkdir(parents=True)
    records = {}
    for graph, info in bundle.graphs.items():
        if graph == "vision":
            continue
        for capacity in CAPACITIES if graph.endswith(".trunk") else (None,):
            key = engine_key(graph, capacity)
            (folder / f"{key}.plan").write_text(key)
            length = MAX_TOKENS // 2
            queries = length * bundle.model.queries_per_key
            sizes = {"B": 2, "T": length, "N": MAX_TOKENS, "S": capacity or 0, "Q": queries}
            shapes = {
                tensor.name: tuple(sizes.get(size, 1) if isinstance(size, str) else size for size in tensor.shape)
                for tensor in info.inputs
            }
            records[key] = EngineRecord(
                graph=graph, file=f"{key}.plan", log=f"{key}.log", bytes=len(key), sha256="", precision=precision,
                source_sha256=source_sha256(bundle, graph), recipe_sha256="", seconds=0.1, cache_capacity=capacity,
                profile={name: (shape, shape, shape) for name, shape in shapes.items()},
            )  # fmt: skip
    engine_set = EngineSet(
        path=folder, target=folder.name, flavour="tensorrt-rtx", engine_version="1.7.1", capabilities=((8, 9),),
        max_rows=2, max_positions=MAX_TOKENS // 2, cache_capacities=CAPACITIES, engines=records,
    )  # fmt: skip
    write_engines(engine_set)
    return engine_set


class Damaging(WrappedBackend):
    """A backend that damages the outputs of one graph; for trunks only at one capacity, if given."""

    engine_set: EngineSet  # if a test sets one

    def __init__(self, backend: Backend, graph: str, *, capacity: int | None = None, value: float = np.nan) -> None:
        super().__init__(backend)
        self.damaged_graph, self._capacity, self.added_value = graph, capacity, value

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = super().run(graph, inputs)
        if graph == self.damaged_graph and self._capacity in (None, inputs.get("mask_B1QS", np.empty(0)).shape[-1]):
            name, array = next(iter(outputs.items()))
            outputs[name] = array + np.float32(self.added_value)
        return outputs


@pytest.fixture(scope="module")
def bundle(reference_bundle: Path) -> Bundle:
    return open_bundle(reference_bundle)


@pytest.fixture(scope="module")
def engine_set(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> EngineSet:
    return write_set(bundle, tmp_path_factory.mktemp("engines") / "laptop")


def verified(bundle: Bundle, engine_set: EngineSet, candidate: Backend, steps: int = 6) -> Verification:
    reference = open_backend("numpy", bundle)
    return verify_engines(candidate, reference, engine_set, steps=steps)


def test_every_engine_is_compared_within_its_profile(bundle: Bundle, engine_set: EngineSet) -> None:
    seen: list[tuple[str, Mapping[str, Array]]] = []

    class Noting(Damaging):
        def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
            seen.append((graph, inputs))
            return super().run(graph, inputs)

    found = verified(bundle, engine_set, Noting(open_backend("onnxruntime", bundle), "none"))
    assert found.passed and set(found.engines) == set(engine_set.engines)
    assert all(verdict.max_abs_error < 1e-4 for verdict in found.engines.values())
    assert len({verdict.result_sha256 for verdict in found.engines.values()}) == len(found.engines)
    assert found.agreement.router_agreement == 1 and found.agreement.steps == 6
    capacities = {inputs["mask_B1QS"].shape[-1] for graph, inputs in seen if graph == trunk_name(0)}
    assert capacities == set(CAPACITIES), "each trunk's engine has met its own capacity"
    assert all(inputs["hidden_BTC"].shape[1] <= MAX_TOKENS // 2 for graph, inputs in seen if graph == trunk_name(0))
    assert all(len(inputs["weight_N1"]) <= MAX_TOKENS for graph, inputs in seen if "expert" in graph)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.01])
def test_a_damaged_engine_is_named(bundle: Bundle, engine_set: EngineSet, value: float) -> None:
    device = Damaging(open_backend("onnxruntime", bundle), "layers.1.expert.2", value=value)
    found = verified(bundle, engine_set, device)
    assert not found.passed
    assert [key for key, verdict in found.engines.items() if not verdict.passed] == ["layers.1.expert.2"]


def test_one_capacity_of_a_trunk_may_be_damaged(bundle: Bundle, engine_set: EngineSet) -> None:
    device = Damaging(open_backend("onnxruntime", bundle), trunk_name(1), capacity=64, value=1.0)
    found = verified(bundle, engine_set, device)
    assert [key for key, verdict in found.engines.items() if not verdict.passed] == [engine_key(trunk_name(1), 64)]


def test_errors_of_16_bits_are_allowed_where_the_engine_has_16_bits(bundle: Bundle, tmp_path: Path) -> None:
    device = Damaging(open_backend("onnxruntime", bundle), "head", value=0.002)
    assert not verified(bundle, write_set(bundle, tmp_path / "float32"), device).passed
    assert verified(bundle, write_set(bundle, tmp_path / "float16", "float16"), device).passed


def test_steps_are_cut_to_the_largest_cache(bundle: Bundle, engine_set: EngineSet) -> None:
    device = open_backend("onnxruntime", bundle)
    assert verified(bundle, engine_set, device, steps=1000).agreement.steps < CAPACITIES[-1]
    small = replace(engine_set, cache_capacities=(12,))
    with pytest.raises(EngineError, match="no room for a prompt of 12; build again"):
        verified(bundle, small, device)


def warning(engine_set: EngineSet, machine: Mapping[str, str | None] | None = None) -> str:
    """The warning about these engines, if there is one."""
    line = engine_warning(engine_set, machine)
    assert line is not None
    return line


def test_the_record_is_kept_and_looked_for(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_set = write_set(bundle, tmp_path / "laptop")
    assert "were never verified here; `unimoe verify BUNDLE --backend tensorrt --target laptop`" in warning(engine_set)
    monkeypatch.setattr(verification, "this_machine", lambda: LAPTOP)
    monkeypatch.setattr("unimoe_runtime.bundle.engine_verification.this_machine", lambda: LAPTOP)
    found = verified(bundle, engine_set, open_backend("onnxruntime", bundle))
    path = write_verification(engine_set.path, found)
    assert path.name == VERIFICATION_JSON and read_verification(engine_set.path) == found
    assert engine_warning(engine_set) is None
    assert "driver was 580.65, here it is 590.1" in warning(engine_set, {**LAPTOP, "driver": "590.1"})
    assert "gpu was GeForce RTX 4060, here it is unknown" in warning(engine_set, {**LAPTOP, "gpu": None})
    write_engines(replace(engine_set, engine_version="1.7.2"))
    assert "were rebuilt after they were verified" in warning(engine_set)


def test_a_failed_or_damaged_record_is_doubted(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_set = write_set(bundle, tmp_path / "laptop")
    monkeypatch.setattr(verification, "this_machine", lambda: LAPTOP)
    monkeypatch.setattr("unimoe_runtime.bundle.engine_verification.this_machine", lambda: LAPTOP)
    device = Damaging(open_backend("onnxruntime", bundle), "head")
    path = write_verification(engine_set.path, verified(bundle, engine_set, device))
    assert "FAILED their verification here" in warning(engine_set)
    described = json.loads(path.read_text())
    del described["agreement"]
    for content in ("{", json.dumps(described), json.dumps({**described, "version": 9})):
        path.write_text(content)
        with pytest.raises(EngineError, match=r"verification\.json"):
            read_verification(engine_set.path)
        line = warning(engine_set)
        assert "never verified here" in line and "\n" not in line


def test_a_set_of_the_bundle_opens(reference_bundle: Path, bundle: Bundle, tmp_path: Path) -> None:
    """The record lies beside the engines and is not part of the set."""
    copy = tmp_path / "bundle"
    shutil.copytree(reference_bundle, copy)
    write_set(open_bundle(copy), copy / "engines" / "laptop")
    engine_set = open_engines(open_bundle(copy), "laptop")
    write_verification(engine_set.path, verified(bundle, engine_set, open_backend("onnxruntime", bundle)))
    assert open_engines(open_bundle(copy), "laptop").sha256() == engine_set.sha256()


@pytest.fixture
def device(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Damaging:
    """The backend that `--backend tensorrt` opens: ONNX Runtime on the CPU over an engine set, undamaged by default."""
    backend = Damaging(open_backend("onnxruntime", bundle), "none")
    backend.engine_set = write_set(bundle, tmp_path / "laptop")
    opened = lambda name, *rest, **options: backend if name == "tensorrt" else open_backend(name, *rest)
    monkeypatch.setattr("unimoe.cli.verify.open_backend", opened)
    monkeypatch.setattr(verification, "this_machine", lambda: LAPTOP)
    monkeypatch.setattr("unimoe_runtime.bundle.engine_verification.this_machine", lambda: LAPTOP)
    return backend


def test_the_command_verifies_engines(device: Damaging, bundle: Bundle) -> None:
    command = ["verify", str(bundle.path), "--backend", "tensorrt", "--target", "laptop", "--steps", "4"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "layers.0.trunk@32" in done.stdout and "layers.2.expert.* × 8" in done.stdout
    assert "verified (GeForce RTX 4060, driver 580.65)" in done.stdout
    assert engine_warning(device.engine_set, LAPTOP) is None
    device.damaged_graph = "layers.0.expert.0"
    failed = CliRunner().invoke(cli, [*command, "--json"])
    assert failed.exit_code == 1
    told = json.loads(failed.stdout)
    assert not told["passed"] and not told["engines"]["layers.0.expert.0"]["passed"]
    assert "FAILED" in warning(device.engine_set, LAPTOP)


def test_a_synthesizer_doubts_unverified_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`synth` prints that line and continues."""
    bundle = open_bundle(write_speaking_bundle(tmp_path))
    backend = Damaging(open_backend("onnxruntime", bundle), "none")
    monkeypatch.setattr("unimoe_runtime.synthesis.synthesizer.open_backend", lambda *rest, **options: backend)
    command = ["synth", str(bundle.path), "--backend", "tensorrt", "--text", "one", "-o", str(tmp_path / "one.wav")]
    quiet = CliRunner().invoke(cli, [*command, "--max-steps", "12"])
    assert quiet.exit_code == 0 and "never verified" not in quiet.stderr
    backend.engine_set = write_set(bundle, tmp_path / "laptop")
    warned = CliRunner().invoke(cli, [*command, "--max-steps", "12"])
    assert warned.exit_code == 0, warned.output
    assert "unimoe: the engines for laptop were never verified here" in warned.stderr


def test_the_device_loop_is_verified_over_a_stand_in_for_tensorrt(tmp_path: Path) -> None:
    """DeviceBackend and the TensorRT module run as on a GPU; the oracle computes the engines. A wrong one is named."""
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", tiny_config()), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    write_engine_set(bundle)
    engine_set, device = open_engines(bundle), HostDevice()
    pool, oracle = Pool(device), Damaging(open_backend("numpy", bundle), "none")
    engines = TensorRTEngines(
        bundle, engine_set, device, pool, StandInTensorRT(bundle, device, oracle.run), graphs=True
    )
    candidate = DeviceBackend("tensorrt", bundle, device, pool, engines, engine_set)
    assert candidate.engine_set is not None and verified(bundle, candidate.engine_set, candidate).passed
    oracle.damaged_graph, oracle.added_value = "layers.1.expert.0", 0.5
    found = verified(bundle, engine_set, candidate)
    assert [key for key, verdict in found.engines.items() if not verdict.passed] == ["layers.1.expert.0"]
    candidate.close()
