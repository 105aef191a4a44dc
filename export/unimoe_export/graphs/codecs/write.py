"""The one entry point that writes the graphs of every kind of codec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unimoe_export.graphs.codecs import convnext, dac, encodec, harmonic
from unimoe_export.graphs.codecs.common import CodecGraphs
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.records import Between, JsonRecord, require

Size = Annotated[int, Between(1, 1 << 20)] | None
Number = Annotated[float, Between(0, 1e9)] | None


@dataclass(frozen=True, kw_only=True)
class CodecNumbers(JsonRecord):
    """The numbers in config.json that define the graphs, for all kinds of codec; each kind has some of them."""

    sample_rate_hz: Annotated[int, Between(1000, 768_000)] | None = None
    hop_samples: Size = None
    window_samples: Size = None
    num_bands: Size = None
    width: Size = None
    intermediate_size: Size = None
    kernel_size: Size = None
    num_encoder_blocks: Size = None
    num_decoder_blocks: Size = None
    synthesis_frames: Size = None
    latent_size: Size = None
    codebook_size: Size = None
    norm_eps: Number = None
    band_floor: Number = None
    max_log_magnitude: Number = None


def write_codec(codec_dir: Path, out_dir: Path, num_codebooks: int | None = None) -> CodecGraphs:
    """Write codec_encoder and codec_decoder (.onnx, .safetensors) of a checkpoint's codec folder into `out_dir`.

    `num_codebooks` keeps only the first codebooks, for a model that uses fewer than the codec has.
    Raises CheckpointError where the codec is damaged, of an unknown kind, or a weight file that must be converted.
    """
    if codec_dir.is_file():
        raise CheckpointError(
            f"{codec_dir}: is a weight file; convert it into a codec folder with unimoe.codec.dac.import_dac"
        )
    config = read_json(codec_dir / "config.json", CheckpointError)
    try:
        numbers = CodecNumbers.from_dict(config, ignore_unknown=True)
        for name in numbers.to_dict():
            require(name not in config or config[name] is not None, name, None, "a number")
    except ConfigError as error:
        raise CheckpointError(f"{codec_dir}/config.json: {error}") from None
    stored = config.get("num_codebooks")
    if not isinstance(stored, int) or not 1 <= (num_codebooks or stored) <= stored:
        raise CheckpointError(
            f"{codec_dir}: the codec has {stored!r} codebooks, {num_codebooks or 'at least 1'} are wanted"
        )
    _require_finite(codec_dir / "model.safetensors")
    try:
        match config.get("kind"):
            case "encodec":
                return encodec.write_codec(codec_dir, out_dir, num_codebooks)
            case "convnext":
                return convnext.write_codec(codec_dir, out_dir, num_codebooks)
            case "harmonic":
                return harmonic.write_codec(codec_dir, out_dir, num_codebooks)
            case "dac":
                return dac.write_codec(codec_dir, out_dir, num_codebooks)
    except KeyError as error:
        raise CheckpointError(f"{codec_dir}: the codec is damaged: it lacks {error}") from None
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{codec_dir}: the codec's weights do not fit its config.json ({error})") from None
    raise CheckpointError(
        f"{codec_dir}/config.json: unknown kind {config.get('kind')!r}; known: convnext, harmonic, encodec, dac"
    )


def _require_finite(path: Path) -> None:
    tensors = TensorFile(path, CheckpointError)
    for name in tensors.entries:
        tensors.require_finite(name)
