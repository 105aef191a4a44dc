"""A bundle of random weights at real size with the demo's front end. It produces noise: use it only for timing.

    python -m benchmarks.speaking_model FOLDER --hidden 1024

writes FOLDER/bundle in float32 and FOLDER/int8, for `benchmarks.concurrency` and others.

Eight layers, twelve codebooks of 1024 codes, the public model's delay pattern of 19 steps, a codec of the demo's size.
Its router is sharp enough to pick about as many experts a token as the trained demo.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe_export.exporter import export_bundle
from unimoe_runtime.checkpoint.folder import FORMAT, FORMAT_VERSION, tensor_shapes
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

from .quantized import write_int8
from .workload import model_config

DELAY_PATTERN = (0, *range(8, 19))
_DEMO = Path(__file__).parent.parent / "checkpoints" / "demo"
_ROUTER_SPREAD = 3.0  # standard deviation of the router's logits
_TOP_P = 0.7


def write_speaking_bundle(folder: Path, hidden: int) -> Path:
    """Export such a model into `folder`/bundle."""
    checkpoint = folder / "checkpoint"
    shutil.copytree(_DEMO / "frontend", checkpoint / "frontend")
    frontend = open_frontend(checkpoint / "frontend")
    assert isinstance(frontend, TimelineFrontEnd)
    num_codebooks = len(DELAY_PATTERN)
    config = replace(
        model_config(hidden), text_vocab_size=len(frontend.tokens), num_codebooks=num_codebooks,
        delay_pattern=DELAY_PATTERN, max_positions=2048, top_p=_TOP_P,
    )  # fmt: skip
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        if name.endswith("norm.weight"):
            tensors[name] = np.ones(shape, np.float32)
            continue
        scale = 1.0 if "embedding" in name else shape[-1] ** -0.5
        scale *= _ROUTER_SPREAD if "router" in name else num_codebooks**-0.5 if "codec_embedding" in name else 1.0
        tensors[name] = random.standard_normal(shape, dtype=np.float32) * np.float32(scale)
    save_file(tensors, checkpoint / "model.safetensors")
    sampling = {"guidance_scale": 2.0, "temperature": 1.0, "top_k": 45}
    description = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "model": config.to_dict(),
        "sampling": {"speech": sampling, "music": sampling},
    }  # fmt: skip
    (checkpoint / "config.json").write_text(json.dumps(description), encoding="utf-8")
    torch.manual_seed(0)
    codec_config = ConvNeXtCodecConfig.from_dict(
        json.loads((_DEMO / "codec" / "config.json").read_text(encoding="utf-8"))
    )
    codec = ConvNeXtCodec(replace(codec_config, num_codebooks=num_codebooks, codebook_size=config.codebook_size))
    codec.save(checkpoint / "codec")
    export_bundle(checkpoint, folder / "bundle")
    return folder / "bundle"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=384)
    options = parser.parse_args()
    bundle = write_speaking_bundle(options.folder, options.hidden)
    write_int8(bundle, options.folder / "int8")


if __name__ == "__main__":
    main()
