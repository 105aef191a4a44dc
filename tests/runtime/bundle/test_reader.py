"""The bundle format: round trip, and one clear error for each kind of damage, before the damaged part is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config
from tests.runtime.bundle.small_bundle import CONFIG, edit_manifest, write_bundle
from unimoe_runtime.backends.numpy.backend import NumpyBackend
from unimoe_runtime.bundle.reader import (
    MANIFEST,
    expert_name,
    language_model_graphs,
    open_bundle,
)
from unimoe_runtime.bundle.writer import BundleWriter
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BundleError, OutputError


def test_round_trip(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path / "bundle"))
    assert bundle.model == CONFIG
    assert bundle.sampling == {"speech": SamplingConfig()}
    assert list(bundle.graphs) == list(language_model_graphs(CONFIG))
    assert bundle.graphs["head"].inputs[0].shape == ("N", CONFIG.hidden_size)
    assert len(list(bundle.check_all())) == len(bundle.files)
    assert not [path for path in tmp_path.iterdir() if path.name != "bundle"]


def test_opening_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening is fast, because hashes are checked at the first use."""
    target = write_bundle(tmp_path / "bundle")
    monkeypatch.setattr("unimoe_runtime.bundle.reader.sha256_of", lambda path: pytest.fail(f"{path} was hashed"))
    open_bundle(target)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(format="zip"), "not a unimoe-bundle"),
        (lambda m: m.update(format_version=3), "format version 3"),
        (lambda m: m.pop("graphs"), "'graphs' is missing"),
        (lambda m: m["model"].update(top_p=1.5), "top_p is 1.5"),
        (lambda m: m["model"].update(colour="red"), "colour"),
        (lambda m: m["graphs"].pop("head"), "head is missing"),
        (lambda m: m["graphs"]["head"].update(weights="elsewhere.safetensors"), "not listed"),
        (lambda m: m["files"].update({"../x": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (lambda m: m["files"].update({"/etc/hostname": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (lambda m: m["files"].update({"gone": {"bytes": 1, "sha256": ""}}), "missing"),
        (lambda m: m["files"].update({"a" * 300: {"bytes": 1, "sha256": ""}}), "cannot be read .File name too long"),
    ],
)
def test_damaged_manifest(tmp_path: Path, edit: Callable[[dict], None], message: str) -> None:
    target = write_bundle(tmp_path / "bundle")
    edit_manifest(target, edit)
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(target)
    assert "\n" not in str(caught.value)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"not a bundle, it has no manifest\.json"):
        open_bundle(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        open_bundle(tmp_path)


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle")
    weights = target / "head.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4])
    with pytest.raises(BundleError, match="truncated"):
        open_bundle(target)
    weights.unlink()
    with pytest.raises(BundleError, match="missing"):
        open_bundle(target)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    """What is there and cannot be read is not called missing."""
    target = write_bundle(tmp_path / "bundle")
    head = target / "head.safetensors"
    head.unlink()
    head.symlink_to("head.safetensors")
    with pytest.raises(BundleError, match=r"missing|Too many levels"):
        open_bundle(target)
    head.unlink()
    head.symlink_to("nowhere")
    with pytest.raises(BundleError, match="missing"):
        open_bundle(target)
    (tmp_path / "two words").mkdir()
    head.unlink()
    head.symlink_to(tmp_path / "two words" / "file")
    (tmp_path / "two words" / "file").touch()
    target.rename(tmp_path / "$(a b)")
    with pytest.raises(BundleError, match=r"cp -rL '.*\$\(a b\)' COPY"):
        open_bundle(tmp_path / "$(a b)")


def test_link_out_of_the_bundle(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle")
    outside = tmp_path / "outside"
    (target / "head.safetensors").rename(outside)
    (target / "head.safetensors").symlink_to(outside)
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(target)


@pytest.mark.parametrize("file", ["head.onnx", "head.safetensors"])
def test_one_flipped_byte_stops_the_part_that_has_it(tmp_path: Path, file: str) -> None:
    target = write_bundle(tmp_path / "bundle")
    content = bytearray((target / file).read_bytes())
    content[-1] ^= 1
    (target / file).write_bytes(content)
    backend = NumpyBackend(open_bundle(target))
    hidden = np.ones((1, CONFIG.hidden_size), np.float32)
    inputs = {"accumulator_NC": hidden, "expert_input_NC": hidden, "weight_N1": np.ones((1, 1), np.float32)}
    assert backend.run(expert_name(0, 0), inputs)["new_accumulator_NC"].shape == hidden.shape
    with pytest.raises(BundleError, match="damaged: its SHA-256"):
        backend.run("head", {"hidden_NC": hidden})


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    """Weights that are a valid file but belong to another model."""
    target = write_bundle(tmp_path / "bundle")
    edit_manifest(target, lambda m: m["model"].update(qkv_bias=False, routed_intermediate_size=13))
    bundle = open_bundle(target)
    with pytest.raises(BundleError, match=r"gate_up\.weight has the shape \[16, 24\], the model needs \[16, 26\]"):
        bundle.graph(expert_name(0, 0))
    with pytest.raises(BundleError, match="gate_up"):  # every later access also gets the error
        bundle.graph(expert_name(0, 0))


def test_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), BundleWriter(tmp_path / "bundle") as writer:
        (writer.directory / "part").write_bytes(b"half")
        raise OSError(28, "No space left on device")
    with BundleWriter(tmp_path / "bundle") as writer:
        (writer.directory / "part").write_bytes(b"half")
    assert list(tmp_path.iterdir()) == []


def test_existing_target(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle")
    with pytest.raises(OutputError, match="--force"):
        write_bundle(target)
    write_bundle(target, tiny_config(num_layers=1), replace=True)
    assert open_bundle(target).model.num_layers == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").touch()
    with pytest.raises(OutputError, match="not a bundle"):
        write_bundle(other, replace=True)
