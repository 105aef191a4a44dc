"""EnCodec: Meta's weight file becomes a codec folder, and matches the package.

Tests that need the `encodec` package are skipped if it is missing. A plain installation would also install another
torch and torchaudio (use pip install --no-deps encodec einops).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unimoe.codec.base import load_codec
from unimoe.codec.encodec import EncodecCodec, import_encodec
from unimoe_export.graphs.codecs.write import write_codec
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.errors import BackendError, CheckpointError

VECTORS = Path(__file__).parents[2] / "vectors"
SMALL = VECTORS / "encodec_small"
needs_package = pytest.mark.skipif(find_spec("encodec") is None, reason="the encodec package is not installed")


def published(folded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict under the published names that folds to these weights."""
    state = {}
    for name, tensor in folded.items():
        if name.endswith("conv.weight") or name.endswith("convtr.weight"):
            state[name + "_g"] = tensor.flatten(1).norm(dim=1).view(-1, 1, 1)
            state[name + "_v"] = tensor * torch.linspace(0.5, 3, len(tensor)).view(-1, 1, 1)
        else:
            state[name] = tensor
        if name.endswith("_codebook.embed"):
            state[name + "_avg"] = tensor.clone()
            state[name.replace("embed", "cluster_size")] = torch.ones(len(tensor))
    return state


@pytest.mark.parametrize("zipped", [True, False])
def test_import_folds_weight_normalization(tmp_path: Path, zipped: bool) -> None:
    folded = load_file(SMALL / "codec" / "model.safetensors")
    path = tmp_path / "encodec_24khz-d7cc33bc.th"
    torch.save(published(folded), path, _use_new_zipfile_serialization=zipped)
    import_encodec(path, tmp_path / "codec", 2)
    found = load_file(tmp_path / "codec" / "model.safetensors")
    assert set(found) == set(folded) - {"quantizer.vq.layers.2._codebook.embed"}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, folded[name], rtol=1e-5, atol=1e-7)
    config = json.loads((tmp_path / "codec" / "config.json").read_text())
    assert config | {"source": None} == json.loads((SMALL / "codec" / "config.json").read_text()) | {
        "num_codebooks": 2,
        "source": None,
    }


def test_import_refuses_other_files_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.th"
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_encodec(path, tmp_path / "codec", 2)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="not a file of plain weights"):
        import_encodec(path, tmp_path / "codec", 2)
    torch.save({"encoder.model.0.conv.norm.weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="48 kHz"):
        import_encodec(path, tmp_path / "codec", 2)
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="not the weights of EnCodec 24 kHz"):
        import_encodec(path, tmp_path / "codec", 2)
    torch.save(published(load_file(SMALL / "codec" / "model.safetensors")), path)
    with pytest.raises(CheckpointError, match=r"num_codebooks is 4; the file has 1 … 3"):
        import_encodec(path, tmp_path / "codec", 4)
    assert not (tmp_path / "codec").exists()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encodec", None)
    with pytest.raises(BackendError, match="pip install --no-deps encodec einops"):
        EncodecCodec(SMALL / "codec")


@needs_package
def test_the_codec_gives_the_expected_codes_and_samples() -> None:
    codec = load_codec(SMALL / "codec")
    assert (codec.sample_rate_hz, codec.hop_samples, codec.num_codebooks, codec.codebook_size) == (24_000, 8, 3, 16)
    expected = load_file(SMALL / "expected.safetensors")
    for frames in (1, 7, 31):
        codes_BKT = codec.encode(expected[f"{frames}.pcm_BL"])
        assert torch.equal(codes_BKT, expected[f"{frames}.codes_BKT"])
        torch.testing.assert_close(codec.decode(codes_BKT), expected[f"{frames}.decoded_BL"], rtol=0, atol=1e-5)
    pcm_BL = expected["31.pcm_BL"][:, :-3]
    assert codec.encode(pcm_BL).shape == (2, 3, 31)


@pytest.mark.slow
@needs_package
def test_importing_the_package_leaves_no_stand_in_behind() -> None:
    """In a separate process, because modules that this process has imported could hide a remaining dependency."""
    program = (
        "import sys; from unimoe.codec.encodec import EncodecCodec; EncodecCodec(sys.argv[1]);"
        "print('torchaudio' in sys.modules and not hasattr(sys.modules['torchaudio'], '__version__'))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program, str(SMALL / "codec")],
        env={"PYTHONPATH": f"{root}:{root / 'runtime'}", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"


@needs_package
@pytest.mark.slow
def test_graphs_of_the_full_size_equal_the_package(tmp_path: Path) -> None:
    """Random weights in the published shape: 14.9 million parameters, 1024 codes, 320 samples per frame."""
    sys.path.insert(0, str(VECTORS))
    try:
        from make_encodec_small import published_state  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(VECTORS))
    torch.manual_seed(0)
    model, state = published_state(32, 128, [8, 5, 4, 2], 8, 1024)
    torch.save(state, tmp_path / "encodec_24khz-d7cc33bc.th")
    import_encodec(tmp_path / "encodec_24khz-d7cc33bc.th", tmp_path / "codec", 8)
    graphs = write_codec(tmp_path / "codec", tmp_path)
    sessions = {graph.name: open_session(tmp_path / graph.file) for graph in (graphs.encoder, graphs.decoder)}

    def run(graph: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        names = [output.name for output in sessions[graph].get_outputs()]
        return dict(zip(names, sessions[graph].run(names, inputs), strict=True))

    codec = BundleCodec(graphs.manifest(), run)
    for frames in (3, 40):
        pcm_L = torch.randn(frames * 320) * 0.1
        with torch.no_grad():
            [(codes_BKT, _)] = model.encode(pcm_L[None, None])
            expected_L = model.decode([(codes_BKT, None)])[0, 0].numpy()
        codes_KT = codes_BKT[0].numpy()
        np.testing.assert_array_equal(codec.encode(pcm_L.numpy()), codes_KT)
        stream = codec.stream()
        pieces = [stream.push(codes_KT[:, t : t + 1]) for t in range(frames)]
        np.testing.assert_allclose(np.concatenate([*pieces, stream.finish()]), expected_L, rtol=0, atol=1e-4)
