"""Writes tests/vectors/encodec_small with the `encodec` package, so that tests without the package have a reference.

    pip install --no-deps encodec einops && python tests/vectors/make_encodec_small.py

A miniature of EnCodec 24 kHz with random weights: codec/ as `import_encodec` writes it, and expected.safetensors:
audio pcm_BL, its codes_BKT, and the samples that the package decodes from them, for several lengths in frames.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from unimoe.codec.encodec import EncodecCodec, import_encodec, import_encodec_package

FOLDER = Path(__file__).parent / "encodec_small"
LENGTHS = (1, 2, 6, 7, 8, 31)
CODEBOOK_SIZE = 16


def published_state(num_filters: int, dimension: int, ratios: list[int], num_codebooks: int, codebook_size: int):
    """Random weights under the published names: weight_norm's weight_g and weight_v, codebooks with statistics."""
    package = import_encodec_package()
    options = {"dimension": dimension, "n_filters": num_filters, "ratios": ratios, "norm": "weight_norm"}
    encoder = package.modules.SEANetEncoder(**options, causal=True)
    decoder = package.modules.SEANetDecoder(**options, causal=True)
    quantizer = package.quantization.ResidualVectorQuantizer(dimension=dimension, n_q=num_codebooks, bins=codebook_size)
    model = package.EncodecModel(encoder, decoder, quantizer, [1.5], 24_000, 1, name="encodec_24khz").eval()
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("weight_g"):
            tensor.mul_(1.6)  # fresh weights attenuate a signal; this keeps its scale
    with torch.no_grad():
        spread = encoder(torch.randn(1, 1, 100 * int(encoder.hop_length)) * 0.1).std()
    for index, layer in enumerate(quantizer.vq.layers):
        layer._codebook.embed.normal_(std=float(spread) * 0.8**index)  # noqa: SLF001
        layer._codebook.inited.fill_(1)  # noqa: SLF001
    return model, state


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    ratios = [4, 2]
    model, state = published_state(4, 8, ratios, 3, CODEBOOK_SIZE)
    weights = FOLDER / "encodec_24khz-d7cc33bc.th"
    torch.save(state, weights)
    import_encodec(weights, FOLDER / "codec", 3)
    weights.unlink()
    config_path = FOLDER / "codec" / "config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    del config["source"]  # random weights have no licence
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    expected = {}
    with torch.no_grad():
        for length in LENGTHS:
            pcm_BL = torch.randn(2, length * EncodecCodec(FOLDER / "codec").hop_samples) * 0.1
            [(codes_BKT, _)] = model.encode(pcm_BL[:, None])
            expected[f"{length}.pcm_BL"] = pcm_BL
            expected[f"{length}.codes_BKT"] = codes_BKT.contiguous()
            expected[f"{length}.decoded_BL"] = model.decode([(codes_BKT, None)])[:, 0].contiguous()
    (FOLDER / "expected.safetensors").write_bytes(save(expected))


if __name__ == "__main__":
    main()
