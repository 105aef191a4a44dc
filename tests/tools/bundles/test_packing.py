"""A pack holds the files that a device needs, unpacks there, and is refused if a byte is wrong."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime.bundle.manifest import ENCODER
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.errors import BundleError, EngineError, OutputError
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_tools.bundles.packing import INDEX, plan_pack, unpack, write_pack


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(write_speaking_bundle(tmp_path_factory.mktemp("packing")))


@pytest.fixture(scope="module")
def pack(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("packs") / "bundle.pack"
    plan = plan_pack(bundle, "cpu")
    assert set(plan.left_out) == {bundle.graphs[ENCODER].file, bundle.graphs[ENCODER].weights}
    parts = {part.name: part for part in plan.parts()}
    assert parts["codec encoder"].after == 0 < parts["codec encoder"].before
    assert parts["experts"].after == parts["experts"].before
    assert write_pack(plan, file) == file.stat().st_size
    return file


def test_what_arrives_speaks_the_same(bundle: Bundle, pack: Path, tmp_path: Path) -> None:
    arrived = unpack(pack, tmp_path / "bundle")
    assert set(arrived.check_all()) == set(bundle.files) - arrived.left_out
    request = SynthesisRequest(task="speech", text="the cat", seed=1)
    codes = []
    for path in (bundle.path, tmp_path / "bundle"):
        with Synthesizer.open(path) as synthesizer:
            codes.append(synthesizer.synthesize(request).codes_TK.tolist())
    assert codes[0] == codes[1]
    with pytest.raises(BundleError, match="left out when this bundle was packed"):
        arrived.graph(ENCODER)
    with pytest.raises(OutputError, match="exists already"):
        unpack(pack, tmp_path / "bundle")


def test_the_same_bundle_gives_the_same_pack(bundle: Bundle, pack: Path, tmp_path: Path) -> None:
    write_pack(plan_pack(bundle, "cpu"), tmp_path / "again.pack")
    assert (tmp_path / "again.pack").read_bytes() == pack.read_bytes()


def test_every_byte_is_verified(pack: Path, tmp_path: Path) -> None:
    content = bytearray(pack.read_bytes())
    with tarfile.open(pack) as tar:
        place = tar.getmember("embeddings.safetensors").offset_data
    content[place + 100] ^= 1
    damaged = tmp_path / "damaged.pack"
    damaged.write_bytes(content)
    with pytest.raises(BundleError, match=r"embeddings\.safetensors is damaged"):
        unpack(damaged, tmp_path / "out")
    damaged.write_bytes(pack.read_bytes()[: place + 10])
    with pytest.raises(BundleError, match="damaged"):
        unpack(damaged, tmp_path / "out")
    damaged.write_bytes(b"no tar file at all" * 100)
    with pytest.raises(BundleError, match="no pack, or damaged"):
        unpack(damaged, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.pack"], "nothing is left behind"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "unlisted"])
def test_a_pack_cannot_write_elsewhere(name: str, tmp_path: Path) -> None:
    info = {"bytes": 1, "sha256": "0" * 64}
    listed = {} if name == "unlisted" else {name: info}
    index = json.dumps({"format": "unimoe-pack", "format_version": 1, "files": listed}).encode()
    file = tmp_path / "evil.pack"
    with tarfile.open(file, "w") as tar:
        for member, content in ((INDEX, index), (name, b"x")):
            header = tarfile.TarInfo(member)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    with pytest.raises(BundleError, match="do not use this pack"):
        unpack(file, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pack"]


def test_a_gpu_needs_engines(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="unimoe build"):
        plan_pack(bundle, "rtx-4060")
