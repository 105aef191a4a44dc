"""Makes dac_small/ with the `dac` package (descript-audio-codec 1.0.0): a small DAC of random weights, written by the
package's own `save`, and its outputs.

    PYTHONPATH=.:runtime python tests/vectors/make_dac_small.py
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.random_dac import PUBLISHED, random_state

OPTIONS = {
    **PUBLISHED, "encoder_dim": 2, "encoder_rates": [2, 3, 5], "latent_dim": 16, "decoder_dim": 16,
    "decoder_rates": [5, 3, 2], "n_codebooks": 3, "codebook_size": 32,
}  # fmt: skip
FRAMES = (1, 4, 30)

if __name__ == "__main__":
    folder = Path(__file__).with_name("dac_small")
    model = import_module("dac.model.dac").DAC(**OPTIONS).eval()
    model.load_state_dict(random_state(OPTIONS))
    model.save(str(folder / "weights.pth"), package=False)
    torch.manual_seed(0)
    expected = {}
    with torch.no_grad():
        for frames in FRAMES:
            pcm_BL = 0.3 * torch.randn(2, frames * int(model.hop_length) - 3)
            codes_BKT = model.encode(model.preprocess(pcm_BL[:, None], 16000))[1]
            decoded_BL = model.decode(model.quantizer.from_codes(codes_BKT)[0])[:, 0]
            arrays = {"pcm_BL": pcm_BL, "codes_BKT": codes_BKT, "decoded_BL": decoded_BL}
            expected.update({f"{frames}.{name}": tensor.contiguous() for name, tensor in arrays.items()})
    save_file(expected, folder / "expected.safetensors")
