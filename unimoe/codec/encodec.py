"""EnCodec (Défossez et al. 2022, arXiv:2210.13438) as a model's codec, from Meta's published 24 kHz weights.

The project may not ship the weights (CC-BY-NC-4.0). A user who has `encodec_24khz-d7cc33bc.th` converts it once with
`import_encodec` into a checkpoint's codec folder, which needs only torch. `EncodecCodec` runs such a folder with
the `encodec` package. The 48 kHz model is refused: it is stereo and outputs a loudness for each segment in addition to
its codes, which a token model cannot produce.

Folder: config.json, and model.safetensors under the published names, with weight normalization folded
(`….weight_g`, `….weight_v` → `….weight`) and each codebook as `quantizer.vq.layers.{k}._codebook.embed`.

Shapes: B batch, L samples, K codebooks, T frames, V codes of a codebook, D width of a code.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from unimoe_runtime.errors import BackendError, CheckpointError
from unimoe_runtime.files.json import read_json

SAMPLE_RATE_HZ = 24_000
_CODEBOOK = "quantizer.vq.layers.{}._codebook.embed"


class EncodecCodec:
    """EnCodec from a codec folder that `import_encodec` wrote.

    Raises BackendError where the `encodec` package is missing, CheckpointError where the folder is no EnCodec.
    """

    sample_rate_hz: int
    hop_samples: int
    num_codebooks: int
    codebook_size: int

    def __init__(self, codec_dir: Path | str) -> None:
        codec_dir = Path(codec_dir)
        config = read_json(codec_dir / "config.json", CheckpointError)
        if config.get("kind") != "encodec":
            raise CheckpointError(f"{codec_dir}/config.json: the codec is {config.get('kind')!r}, not 'encodec'")
        try:
            self.sample_rate_hz = config["sample_rate_hz"]
            self.hop_samples = config["hop_samples"]
            self.num_codebooks = config["num_codebooks"]
            self.codebook_size = config["codebook_size"]
            ratios = config["ratios"]
        except KeyError as error:
            raise CheckpointError(f"{codec_dir}/config.json: lacks the field {error}") from None
        try:
            weights = load_file(codec_dir / "model.safetensors")
            self._encoder, self._decoder, self._quantizer = _build(weights, ratios)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{codec_dir}/model.safetensors does not fit its config.json: {reason}") from None

    @torch.no_grad()
    def encode(self, pcm_BL: Tensor) -> Tensor:
        """Codes [B, K, T] of float samples in -1 … 1. Zeros pad the end to a whole frame."""
        missing = -pcm_BL.shape[1] % self.hop_samples
        padded_BL = torch.nn.functional.pad(pcm_BL, (0, missing))
        codes_KBT: Tensor = self._quantizer.encode(self._encoder(padded_BL[:, None]))
        return codes_KBT.transpose(0, 1)

    @torch.no_grad()
    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Samples [B, L] of codes, L = T · hop_samples. Fewer codebooks than the codec has are allowed."""
        pcm_B1L: Tensor = self._decoder(self._quantizer.decode(codes_BKT.transpose(0, 1)))
        return pcm_B1L[:, 0]


def import_encodec(weights_path: Path | str, out_dir: Path | str, num_codebooks: int) -> None:
    """Convert Meta's weight file into a checkpoint's codec folder, keeping the first `num_codebooks` codebooks.

    At 75 frames a second and 1024 codes, each codebook is 0.75 kb/s: 2, 4, 8, 16, 32 of them are the published
    bandwidths 1.5, 3, 6, 12 and 24 kb/s. Raises CheckpointError where the file is damaged or of another model.
    """
    weights_path, out_dir = Path(weights_path), Path(out_dir)
    published = _read_published(weights_path)
    stored = sum(_CODEBOOK.format(index) in published for index in range(len(published)))
    if not 1 <= num_codebooks <= stored:
        raise CheckpointError(f"{weights_path}: num_codebooks is {num_codebooks}; the file has 1 … {stored}")
    weights = fold_weight_norm(published, num_codebooks)
    ratios = _ratios(weights)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "model.safetensors").write_bytes(save(weights))
    hop = 1
    for ratio in ratios:
        hop *= ratio
    config = {
        "kind": "encodec",
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "hop_samples": hop,
        "num_codebooks": num_codebooks,
        "codebook_size": weights[_CODEBOOK.format(0)].shape[0],
        "ratios": ratios,
        "source": {
            "file": weights_path.name,
            "sha256": hashlib.sha256(weights_path.read_bytes()).hexdigest(),
            "license": "CC-BY-NC-4.0",
        },
    }
    (out_dir / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def fold_weight_norm(published: Mapping[str, Tensor], num_codebooks: int) -> dict[str, Tensor]:
    """Plain float32 weights from the published ones: weight = g · v / ‖v‖, the norm over all axes but the first.

    Keeps the encoder, the decoder and the first codebooks. Drops the statistics that only training needs.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in published.items():
        if not name.startswith(("encoder.", "decoder.")) or name.endswith("weight_g"):
            continue
        values = tensor.float()
        if name.endswith("weight_v"):
            gain = published[name.removesuffix("_v") + "_g"].float()
            values = gain * values / values.flatten(1).norm(dim=1).view(-1, 1, 1)
            name = name.removesuffix("_v")
        weights[name] = values.contiguous()
    for index in range(num_codebooks):
        weights[_CODEBOOK.format(index)] = published[_CODEBOOK.format(index)].float().contiguous()
    return weights


def _read_published(path: Path) -> dict[str, Tensor]:
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        first_line = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not a file of plain weights ({first_line})") from None
    if isinstance(published, dict) and "encoder.model.0.conv.norm.weight" in published:
        raise CheckpointError(
            f"{path}: the 48 kHz EnCodec, which needs a loudness beside its codes; take encodec_24khz-d7cc33bc.th"
        )
    for name in ("encoder.model.0.conv.conv.weight_v", "decoder.model.0.conv.conv.weight_v", _CODEBOOK.format(0)):
        if not isinstance(published, dict) or not isinstance(published.get(name), Tensor):
            raise CheckpointError(f"{path}: not the weights of EnCodec 24 kHz: there is no {name}")
    return dict(published)


def _ratios(weights: Mapping[str, Tensor]) -> list[int]:
    """Upsampling factors of the decoder in order. The kernel of a transposed convolution is twice its stride."""
    found = {
        int(name.split(".")[2]): tensor.shape[-1] // 2
        for name, tensor in weights.items()
        if name.endswith(".convtr.convtr.weight")
    }
    return [found[position] for position in sorted(found)]


def _build(weights: Mapping[str, Tensor], ratios: list[int]) -> tuple[Any, Any, Any]:
    """The encoder, decoder and quantizer modules of the `encodec` package with the folded weights."""
    encodec = import_encodec_package()
    first = weights["encoder.model.0.conv.conv.weight"]
    codebooks = [weights[name] for name in weights if name.startswith("quantizer.")]
    size, dimension = codebooks[0].shape
    options = {
        "channels": 1, "dimension": dimension, "n_filters": first.shape[0], "ratios": ratios,
        "norm": "none", "causal": True,
    }  # fmt: skip
    encoder = encodec.modules.SEANetEncoder(**options)
    decoder = encodec.modules.SEANetDecoder(**options)
    quantizer = encodec.quantization.ResidualVectorQuantizer(dimension=dimension, n_q=len(codebooks), bins=size)
    for prefix, module in (("encoder.", encoder), ("decoder.", decoder)):
        part = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        module.load_state_dict(part)
    for index, layer in enumerate(quantizer.vq.layers):
        layer._codebook.embed.copy_(weights[_CODEBOOK.format(index)])
        layer._codebook.inited.fill_(1.0)
    for module in (encoder, decoder, quantizer):
        module.eval().requires_grad_(False)
    return encoder, decoder, quantizer.vq


def import_encodec_package() -> ModuleType:
    try:
        with _torchaudio_or_stand_in(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its use of the older weight_norm does not concern the user
            package = importlib.import_module("encodec")
            importlib.import_module("encodec.modules")
            importlib.import_module("encodec.quantization")
            return package
    except ImportError as error:
        raise BackendError(
            f"EnCodec needs a package that is missing ({error}): pip install --no-deps encodec einops"
        ) from None


@contextmanager
def _torchaudio_or_stand_in() -> Iterator[None]:
    """Provide an empty `torchaudio` during the import of `encodec`, where the real one is missing or does not load.

    `encodec` imports it to read, resample and save files. Nothing here uses those functions.
    """
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        sys.modules["torchaudio"] = ModuleType("torchaudio")
        try:
            yield
        finally:
            del sys.modules["torchaudio"]
    else:
        yield
