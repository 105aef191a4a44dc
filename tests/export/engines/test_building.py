"""`unimoe build` with the real TensorRT-RTX, ahead of time: built, kept and refused engines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from tests.engines import one_layer, quantized, random_bundle, replace_file
from tests.random_checkpoint import write_random_checkpoint
from unimoe.cli.build import build, summary
from unimoe.codec.dac import import_dac
from unimoe_calibration.schemes import Scheme
from unimoe_export.engines.building import build_engines
from unimoe_export.engines.jobs import list_jobs
from unimoe_export.engines.sizes import Limits, default_capacity, graph_sizes
from unimoe_export.engines.workers import Workers
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.engine_sets import ENGINES_JSON, check_machine, engine_folder, open_engines
from unimoe_runtime.bundle.reader import MANIFEST, Bundle, open_bundle
from unimoe_runtime.errors import ConfigError, EngineError

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

DEMO = Path(__file__).parents[3] / "checkpoints" / "demo"
ENCODEC = Path(__file__).parents[2] / "vectors" / "encodec_small" / "codec"
DAC = Path(__file__).parents[2] / "vectors" / "dac_small" / "weights.pth"
SMALL = Limits(cache_capacities=(64,))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("engines"), one_layer(), "float16")


@pytest.fixture(scope="module")
def built(original: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with engines for SM86, which tests may copy and must not change."""
    folder = tmp_path_factory.mktemp("built") / "bundle"
    shutil.copytree(original.path, folder)
    bundle = open_bundle(folder)
    build_engines(bundle, ["sm86"], limits=SMALL)
    return bundle


@pytest.fixture
def bundle(built: Bundle, tmp_path: Path) -> Bundle:
    """A copy of `built`."""
    shutil.copytree(built.path, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


def stamps(bundle: Bundle, target: str = "sm86") -> dict[str, int]:
    """The time of the last write to each file of an engine set."""
    folder = engine_folder(bundle, target)
    return {
        file.relative_to(folder).as_posix(): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()
    }


def test_a_set_has_what_a_device_needs(built: Bundle) -> None:
    engines = open_engines(built)
    assert (engines.target, engines.flavour, engines.capabilities) == ("sm86", "tensorrt-rtx", ((8, 6),))
    assert set(engines.engines) == {"layers.0.trunk@64", "layers.0.expert.0", "layers.0.expert.1", "head"}
    assert (engines.max_rows, engines.max_positions, engines.cache_capacities) == (2, 64, (64,))
    trunk = engines.find("layers.0.trunk", 64)
    assert trunk.profile["hidden_BTC"] == ((1, 1, 64), (2, 1, 64), (2, 64, 64))
    assert trunk.profile["key_cache_BSX"] == ((1, 1, 64, 64), (2, 1, 64, 64), (2, 1, 64, 64))
    assert trunk.profile["mask_B1QS"] == ((1, 1, 2, 64), (2, 1, 2, 64), (2, 1, 128, 64))
    assert engines.find("layers.0.expert.1").profile["weight_N1"] == ((1, 1), (2, 1), (128, 1))
    assert trunk.weight_bytes and trunk.scratch_bytes and trunk.precision == "float16" and not trunk.fallbacks
    for record in engines.engines.values():
        assert engines.checked(record).stat().st_size == record.bytes
        log = (engines.path / record.log).read_text()
        assert "kernels: " in log and "scratch memory: " in log and "LayerType: " in log
    check_machine(engines, (8, 6), engines.engine_version)


def test_a_rebuild_does_nothing(bundle: Bundle) -> None:
    before = stamps(bundle)
    (again,) = build_engines(bundle, ["sm86"], limits=SMALL)
    assert (again.num_built, again.num_kept) == (0, 4) and stamps(bundle) == before


def test_a_changed_graph_is_built_alone(bundle: Bundle) -> None:
    before = stamps(bundle)
    file = bundle.graphs["layers.0.expert.1"].weights
    content = bytearray((bundle.path / file).read_bytes())
    content[-2:] = np.float16(0.5).tobytes()
    bundle = replace_file(bundle, file, bytes(content))
    with pytest.raises(EngineError, match=r"other graphs than the bundle has now: layers\.0\.expert\.1; `unimoe build"):
        open_engines(bundle)
    (again,) = build_engines(bundle, ["sm86"], limits=SMALL)
    assert (again.num_built, again.num_kept, again.slowest[0][0]) == (1, 3, "layers.0.expert.1")
    after = stamps(bundle)
    changed = {"layers/00/expert_1.engine", "layers/00/expert_1.log", ENGINES_JSON}
    assert {file for file in after if after[file] != before.get(file)} == changed
    open_engines(bundle)


def test_other_limits_build_what_they_touch(bundle: Bundle) -> None:
    (again,) = build_engines(bundle, ["sm86"], limits=Limits(cache_capacities=(64, 128)))
    assert (again.num_built, again.num_kept) == (1, 4)
    engines = open_engines(bundle)
    assert [engines.capacity_for(slots) for slots in (1, 64, 65)] == [64, 64, 128]
    with pytest.raises(EngineError, match="--cache-capacity 129"):
        engines.capacity_for(129)
    (again,) = build_engines(bundle, ["sm86"], limits=Limits(cache_capacities=(128,)))
    assert (again.num_built, again.num_kept) == (0, 4)
    assert not list(engine_folder(bundle, "sm86").rglob("trunk_64*"))


def test_damaged_engines_are_refused_and_built_again(bundle: Bundle) -> None:
    engines = open_engines(bundle)
    head = engines.find("head")
    path = engines.path / head.file
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(EngineError, match=r"head\.engine: damaged.*unimoe build"):
        open_engines(bundle).checked(head)
    (again,) = build_engines(bundle, ["sm86"], limits=SMALL)
    assert (again.num_built, again.num_kept) == (1, 3)
    assert open_engines(bundle).checked(head).read_bytes() != bytes(content)


def test_a_damaged_bundle_builds_nothing_of_it(bundle: Bundle) -> None:
    path = bundle.path / bundle.graphs["head"].weights
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(EngineError, match=r"head\.safetensors: damaged") as problem:
        build_engines(bundle, ["sm89"], limits=SMALL)
    assert "\n" not in str(problem.value)


_KILLED = """
import os, signal, sys
from unimoe_export.engines.building import build_engines
from unimoe_export.engines.sizes import Limits
from unimoe_runtime.bundle.reader import open_bundle

def watch(done, total, name):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

build_engines(open_bundle(sys.argv[1]), ["sm86"], limits=Limits(cache_capacities=(64,)), num_workers=1, progress=watch)
"""


def test_a_killed_build_goes_on(original: Bundle, tmp_path: Path) -> None:
    shutil.copytree(original.path, tmp_path / "bundle")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "bundle")], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    bundle = open_bundle(tmp_path / "bundle")
    with pytest.raises(EngineError, match="no engines for sm86"):
        open_engines(bundle, "sm86")
    leftover = engine_folder(bundle, "sm86") / "layers" / "00" / ".expert_0-cut.engine"
    leftover.write_bytes(b"half")
    (result,) = build_engines(bundle, ["sm86"], limits=SMALL)
    assert (result.num_built, result.num_kept) == (2, 2)
    assert not leftover.exists() and not list(engine_folder(bundle, "sm86").glob(".journal"))


@pytest.mark.slow
def test_one_engine_for_several_gpus(bundle: Bundle) -> None:
    sm89, both = build_engines(bundle, ["sm89", "sm75+sm86"], limits=SMALL)
    assert (sm89.target, both.target) == ("sm89", "sm75+sm86")
    engines = open_engines(bundle, "sm75+sm86")
    assert engines.capabilities == ((7, 5), (8, 6)) and not both.fallbacks
    check_machine(engines, (7, 5), engines.engine_version)
    with pytest.raises(EngineError, match=r"built for compute capability 7\.5, 8\.6, this GPU has 8\.9.*sm89"):
        check_machine(engines, (8, 9), engines.engine_version)
    with pytest.raises(EngineError, match=r"here is 1\.0; build again"):
        check_machine(engines, (8, 6), "1.0")
    with pytest.raises(EngineError, match="has engines for sm75\\+sm86, sm86, sm89; name one"):
        open_engines(bundle)


def test_a_precision_that_the_target_lacks_is_refused_by_name(original: Bundle, tmp_path: Path) -> None:
    plain = random_bundle(tmp_path, one_layer())
    fp8 = quantized(plain, tmp_path / "fp8", Scheme.FP8)
    with pytest.raises(EngineError, match=r"target rtx-3060 with tensorrt-rtx has no fp8 \(layers\.0\.trunk\)"):
        build_engines(fp8, ["sm89", "rtx-3060"])
    assert not (fp8.path / "engines").exists()
    int8 = quantized(plain, tmp_path / "int8", Scheme.W8)
    with pytest.raises(EngineError, match="sm75 with tensorrt-rtx has no int8-weights"):
        build_engines(int8, ["sm75"])
    manifest = json.loads((int8.path / MANIFEST).read_text())
    (int8.path / MANIFEST).write_text(json.dumps({**manifest, "quantization": {"target": "cpu"}}))
    with pytest.raises(EngineError, match=r"as a CPU reads it.*unimoe calibrate FLOAT32 OUT --target sm89"):
        build_engines(open_bundle(int8.path), ["sm89"])
    for target, said in (("cpu", "nothing to build"), ("sm87", "target sm87: tensorrt "), ("rtx-1080", "no target")):
        with pytest.raises((EngineError, ConfigError), match=said) as problem:
            build_engines(original, [target])
        assert "\n" not in str(problem.value)


def test_a_graph_that_every_step_needs_must_build(bundle: Bundle) -> None:
    """One of the codec's graphs may stay on the CPU."""
    file = bundle.graphs["head"].file
    model = onnx.load(bundle.path / file, load_external_data=False)
    model.graph.node[0].op_type = "NonZero"
    del model.graph.node[0].input[1:], model.graph.node[0].attribute[:]
    broken = replace_file(bundle, file, model.SerializeToString())
    with pytest.raises(EngineError, match=r"head: tensorrt-rtx builds no engine \(.*see .*head\.log"):
        build_engines(broken, ["sm86"], limits=SMALL)
    assert "[ERROR]" in (engine_folder(broken, "sm86") / "head.log").read_text()


def bundle_with_codec(folder: Path, codec: Path, num_codes: int) -> Bundle:
    config = one_layer(num_codebooks=3, delay_pattern=(0, 1, 2), codebook_size=num_codes)
    write_random_checkpoint(folder / "checkpoint", config)
    export_bundle(folder / "checkpoint", folder / "bundle", codec=codec)
    return open_bundle(folder / "bundle")


@pytest.mark.slow
def test_a_codec_without_an_engine_is_left_to_the_cpu(tmp_path: Path) -> None:
    """Turing has no float32 matrix product for EnCodec's LSTM."""
    bundle = bundle_with_codec(tmp_path, ENCODEC, 16)
    (result,) = build_engines(bundle, ["sm75"], limits=SMALL)
    assert set(result.unbuilt) == {"codec_encoder", "codec_decoder"} and result.num_built == 4
    with pytest.raises(EngineError, match=r"no engine for codec_decoder \(.*Turing"):
        open_engines(bundle).find("codec_decoder")
    assert "no engine for codec_decoder, it runs on the CPU: " in summary(result)


def test_a_decoder_without_a_state_is_given_windows(tmp_path: Path) -> None:
    import_dac(DAC, tmp_path / "dac")
    bundle = bundle_with_codec(tmp_path, tmp_path / "dac", 32)
    assert graph_sizes(bundle, "codec_decoder", SMALL, None)["T"] == (1, 40, 132)


def test_a_builder_that_dies_is_one_line(original: Bundle, tmp_path: Path) -> None:
    jobs = list(list_jobs(original, ((8, 6),), SMALL, "test"))[:1]
    with (
        Workers(jobs, original.path, tmp_path, "no such flavour", 2) as workers,
        pytest.raises(EngineError, match=r"its builder died \(exit code 1\)"),
    ):
        list(workers.outcomes())


@pytest.mark.slow
def test_the_demo_from_the_command_line(tmp_path: Path) -> None:
    """All of a bundle: trunks, experts, head and both sides of the codec, in two processes."""
    export_bundle(DEMO, tmp_path / "demo", precision="float16")
    runner = CliRunner()
    done = runner.invoke(build, [str(tmp_path / "demo"), "--target", "rtx-4060-laptop", "--jobs", "2", "--json"])
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)
    assert result["num_built"] == 39 and result["unbuilt"] == {} and result["fallbacks"] == {}
    demo = open_bundle(tmp_path / "demo")
    engines = open_engines(demo, "rtx-4060-laptop")
    longest = max(sampling.max_steps for sampling in demo.sampling.values())
    (capacity,) = engines.cache_capacities
    assert capacity == default_capacity(demo) and capacity % 256 == 0 and longest < capacity <= longest + 1024
    assert engines.find("codec_decoder").profile["codes_BKT"] == ((1, 4, 1), (1, 4, 8), (1, 4, longest))
    done = runner.invoke(build, [str(tmp_path / "demo"), "--target", "rtx-4060-laptop"])
    assert "0 built, 39 up to date" in done.stdout


def test_limits_are_checked(original: Bundle) -> None:
    for fields, said in (
        (dict(rows=0, cache_capacities=(1,)), "rows is 0"),
        (dict(cache_capacities=()), "cache is empty"),
        (dict(cache_capacities=(2, 1)), "smallest first"),
    ):
        with pytest.raises(ConfigError, match=said):
            Limits(**fields)
    done = CliRunner().invoke(build, [str(original.path), "--target", "sm86", "--cache-capacity", "x"])
    assert done.exit_code == 2 and "no list of whole numbers" in done.output
