"""False manifests: refused by arithmetic, without noticeable time or memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.bundle.small_bundle import CONFIG, edit_manifest, write_bundle
from unimoe_runtime.bundle.manifest import CodecDescription, codec_signatures, signatures, trunk_name
from unimoe_runtime.bundle.reader import FORMAT_VERSION, MANIFEST, open_bundle
from unimoe_runtime.errors import BundleError, ConfigError

CODEC: dict[str, Any] = {
    "kind": "convnext", "sample_rate_hz": 16000, "hop_samples": 320, "num_codebooks": CONFIG.num_codebooks,
    "codebook_size": CONFIG.codebook_size, "decoder_state": [{"name": "s", "shape": [1, 3], "dtype": "float32"}],
    "band_floor": 0.1,
}  # fmt: skip
LIES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m["model"].update(num_layers=10**9), "num_layers is 1000000000; it must be an integer of at least 1"),
    (lambda m: m["model"].update(num_layers=4096, num_routed_experts=4096), "the model has 16,781,313 graphs"),
    (lambda m: m["model"].update(delay_pattern=[10**12, 0]), r"delay_pattern\[0\] is 1000000000000"),
    (lambda m: m["model"].update(num_codebooks=10**6), "num_codebooks is 1000000"),
    (lambda m: m["graphs"]["head"]["inputs"][0].update(shape=[2**62]), r"graphs\.head\.inputs\[0\]\.shape\[0\]"),
    (lambda m: m["graphs"]["head"].update(outputs=[]), r"graphs\.head\.outputs is \[\]"),
    (lambda m: m["files"]["head.onnx"].update(bytes=-1), r"files\.head\.onnx\.bytes is -1"),
    (lambda m: m.update(codec={**CODEC, "hop_samples": -1}), r"codec\.hop_samples is -1"),
    (lambda m: m.update(codec={**CODEC, "lookahead_frames": -5}), r"codec\.lookahead_frames is -5"),
    (lambda m: m.update(codec={**CODEC, "codebook_size": 7}), r"codec\.codebook_size is 7; it must be the model's, 8"),
    (lambda m: m.update(codec=CODEC), "the graph codec_encoder is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "message"), LIES)
def test_a_lie_is_one_line_at_once(tmp_path: Path, lie: Callable[[dict[str, Any]], object], message: str) -> None:
    target = write_bundle(tmp_path / "bundle")
    edit_manifest(target, lie)
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(target)
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1 and peak < 50e6 and "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_largest_manifest_is_checked_within_a_second_and_200_mb(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle")
    content = json.loads((target / MANIFEST).read_text())
    content["extra"] = [[] for _ in range(500_000)]
    (target / MANIFEST).write_text(json.dumps(content))
    tracemalloc.start()
    open_bundle(target)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_a_decoders_state() -> None:
    for change, message in (
        ({"context_frames": 3}, "a decoder with a state sees each frame once"),
        ({"decoder_state": [{"name": "s", "shape": [1, 10**12], "dtype": "float32"}]}, r"state\[0\]\.shape\[1\] is"),
        ({"decoder_state": [{"name": "s", "shape": [1 << 30], "dtype": "float32"}]}, "decoder_state is 1073741824"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            CodecDescription.from_dict({**CODEC, **change}, ignore_unknown=True)
    inputs, outputs = codec_signatures(CodecDescription.from_dict(CODEC, ignore_unknown=True))["codec_decoder"]
    assert inputs["s"] == outputs["new_s"] == ("float32", ("B", 3))


def test_signatures_follow_the_configuration() -> None:
    inputs, outputs = signatures(trunk_name(3), CONFIG, FORMAT_VERSION)
    assert inputs["hidden_BTC"] == ("float32", ("B", "T", CONFIG.hidden_size))
    assert outputs["weights_NE"] == ("float32", ("N", CONFIG.num_dynamic_experts))
