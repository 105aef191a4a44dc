"""The vision tower (Qwen2.5-VL, arXiv 2502.13923): patches of video frames to embeddings of video tokens.

It computes the same as the bundle's graph `vision`, from the same inputs
(`unimoe_runtime.vision.tower.tower_inputs`), so that the same host code serves both:

    vision = BundleVision(tower.config.to_dict(), tower.run)

Shape suffixes: P patches, M values of a patch, V video tokens, H heads, D head dim, C hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unimoe_runtime.checkpoint.folder import Checkpoint, vision_tensor_shapes
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.vision.tower import RMS_NORM_EPS, VisionConfig

from .attention import rotate
from .model import RMSNorm


class _Attention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_PC: Tensor, cos_PD: Tensor, sin_PD: Tensor, mask_11PP: Tensor) -> Tensor:
        qkv_1HPD = self.qkv_proj(hidden_PC).unflatten(1, (-1, self.head_dim)).transpose(0, 1).unsqueeze(0)
        query, key, value = qkv_1HPD.chunk(3, dim=1)
        query, key = (rotate(x, cos_PD.unsqueeze(0), sin_PD.unsqueeze(0)) for x in (query, key))
        attended_1HPD = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_11PP)
        return self.o_proj(attended_1HPD.squeeze(0).transpose(0, 1).flatten(1))


class _MLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_PC: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_PC)) * self.up_proj(x_PC))


class _Block(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, RMS_NORM_EPS)
        self.attention = _Attention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, RMS_NORM_EPS)
        self.mlp = _MLP(config)

    def forward(self, hidden_PC: Tensor, cos_PD: Tensor, sin_PD: Tensor, mask_11PP: Tensor) -> Tensor:
        hidden_PC = hidden_PC + self.attention(self.attention_norm(hidden_PC), cos_PD, sin_PD, mask_11PP)
        return hidden_PC + self.mlp(self.mlp_norm(hidden_PC))


class _Merger(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.merge_unit * config.hidden_size
        self.norm = RMSNorm(config.hidden_size, RMS_NORM_EPS)
        self.up_proj = nn.Linear(self.width, self.width)
        self.down_proj = nn.Linear(self.width, config.out_hidden_size)

    def forward(self, hidden_PC: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(self.norm(hidden_PC).reshape(-1, self.width))))


class VisionTower(nn.Module):
    """Windowed attention in most blocks; attention over a whole grid step in `full_attention_blocks`."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Linear(config.patch_values, config.hidden_size, bias=False)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_blocks))
        self.merger = _Merger(config)

    def forward(
        self, patches_PM: Tensor, cos_PD: Tensor, sin_PD: Tensor, window_mask_11PP: Tensor, full_mask_11PP: Tensor
    ) -> Tensor:
        """embeddings_VC of the patches' video tokens. Patches and tokens are in window order."""
        hidden_PC = self.patch_embed(patches_PM)
        for index, block in enumerate(self.blocks):
            mask = full_mask_11PP if index in self.config.full_attention_blocks else window_mask_11PP
            hidden_PC = block(hidden_PC, cos_PD, sin_PD, mask)
        return cast(Tensor, self.merger(hidden_PC))

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run the graph `vision` on host arrays, with the signature of a backend's `run`."""
        device = self.patch_embed.weight.device
        tensors = {name: torch.tensor(array, device=device) for name, array in inputs.items()}
        return {"embeddings_VC": self(**tensors).cpu().numpy()}


def load_vision(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> VisionTower:
    """The vision tower of a checkpoint, in float32 and evaluation mode.

    Reads tensor by tensor. Raises CheckpointError where the checkpoint has none.
    """
    if checkpoint.vision is None:
        raise CheckpointError(f"{checkpoint.path}: this checkpoint has no vision tower")
    with torch.device("meta"):
        tower = VisionTower(checkpoint.vision)
    tower.to_empty(device=torch.device(device))
    parameters = dict(tower.named_parameters())
    with torch.no_grad():
        for name in vision_tensor_shapes(checkpoint.vision):
            # The published patch embedding is a convolution's weight, [C, colours · frames, rows, columns].
            parameter = parameters[name.removeprefix("vision.")]
            parameter.copy_(torch.tensor(checkpoint.tensor(name)).reshape(parameter.shape))
    return tower.eval()
