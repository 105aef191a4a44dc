"""`unimoe pack` and `unimoe unpack`: sizes by part, the codec in 16 bits if the difference is inaudible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.runtime.stand_in_tensorrt import write_engine_set
from tests.speaking_bundle import write_speaking_bundle
from unimoe.cli.inspect import inspect
from unimoe.cli.pack import pack_command, unpack_command
from unimoe.cli.verify import verify
from unimoe_calibration.half_codec import halve_codec
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.bundle.engine_sets import open_engines
from unimoe_runtime.bundle.manifest import DECODER, ENCODER
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BundleError
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer


def test_a_bundle_is_packed_and_unpacked(tmp_path: Path) -> None:
    bundle, file = write_speaking_bundle(tmp_path), tmp_path / "site.pack"
    halved = halve_codec(open_bundle(bundle), tmp_path / "half")
    assert 0 <= halved.distance_db < 0.25 and halved.is_harmless and halved.signal_to_noise_db > 30
    shown = CliRunner().invoke(pack_command, [str(bundle), "-o", str(file)])
    assert shown.exit_code == 0, shown.output
    for words in ("codec encoder", "no voice is cloned", "codec decoder in 16 bits", "next: copy"):
        assert words in shown.stdout
    CliRunner().invoke(unpack_command, [str(file), str(tmp_path / "halved")])
    assert "fp32, weights in 16 bits" in CliRunner().invoke(inspect, [str(tmp_path / "halved")]).stdout
    report = json.loads(
        CliRunner().invoke(pack_command, [str(bundle), "-o", str(file), "--codec", "fp32", "--json"]).stdout
    )
    assert report["bytes"] == file.stat().st_size and report["notes"] == []
    done = CliRunner().invoke(unpack_command, [str(file), str(tmp_path / "there")])
    assert done.exit_code == 0 and "each as it was packed" in done.stdout
    assert open_bundle(tmp_path / "there").left_out
    verified = CliRunner().invoke(
        verify, [str(tmp_path / "there"), "--steps", "4"]
    )  # weights in 16 bits, the oracle too
    assert verified.exit_code == 0 and "codec_decoder" in verified.stdout, verified.output


def test_engines_arrive_with_the_graphs_that_they_are_built_from(tmp_path: Path) -> None:
    bundle, file = write_speaking_bundle(tmp_path), tmp_path / "site.pack"
    write_engine_set(open_bundle(bundle), extra={DECODER: {}, ENCODER: {}})
    pack = [str(bundle), "--target", "rtx-4090", "--with-graphs", "-o", str(file)]
    shown = CliRunner().invoke(pack_command, pack)
    assert shown.exit_code == 0 and "kept in fp32: its engine is built from it" in shown.stdout, shown.output
    done = CliRunner().invoke(unpack_command, [str(file), str(tmp_path / "there")])
    assert done.exit_code == 0 and "--trust-engines" in done.stdout
    arrived = open_engines(open_bundle(tmp_path / "there")).engines
    # Nothing runs the encoder: the model clones no voice.
    assert DECODER in arrived and ENCODER not in arrived and f"and {len(arrived)} engines" in done.stdout
    shown = CliRunner().invoke(inspect, [str(tmp_path / "there")])
    assert shown.exit_code == 0 and "left out by pack" in shown.stdout, shown.output
    without = [one for one in pack if one != "--with-graphs"]
    assert CliRunner().invoke(pack_command, without).exit_code == 0
    done = CliRunner().invoke(unpack_command, [str(file), str(tmp_path / "engines")])
    assert "unimoe verify" not in done.stdout and "--backend tensorrt" in done.stdout
    OnnxRuntimeBackend(open_bundle(tmp_path / "engines"))  # opens: an engine set may leave the codec to the CPU
    with (
        Synthesizer.open(tmp_path / "engines") as synthesizer,
        pytest.raises(BundleError, match="left out when this bundle was packed for a device"),
    ):
        synthesizer.synthesize(SynthesisRequest(task="speech", text="the cat"))
    again = CliRunner().invoke(
        pack_command, [str(tmp_path / "there"), "--target", "rtx-4090", "-o", str(file), "--json"]
    )
    assert again.exit_code == 0, again.output
    assert "codec encoder" not in [part["name"] for part in json.loads(again.stdout)["parts"]], "it was left out before"
    refused = CliRunner().invoke(pack_command, [*pack, "--codec", "fp16"])
    assert "leave --codec out" in str(refused.exception)
