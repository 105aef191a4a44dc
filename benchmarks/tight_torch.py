"""A decode step in eager PyTorch, as fast as we could write it: the time that the runtime has to beat.

The split is the runtime's: the host reads the weights of a layer once, and only picked experts run, on both rows. All
possible work is prepared in advance: fused q, k, v, a cache of fixed size written in place, no autograd, no module
calls.

B rows · C hidden · S cache slots · H heads · G key/value heads · D head dim · E experts · K codebooks
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from unimoe.generate import TorchLanguageModel
from unimoe.model import Layer, UniMoE
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.rope import rotary


class _Layer:
    """Views of one layer's weights, and its cache."""

    def __init__(self, layer: Layer) -> None:
        attention, moe = layer.attention, layer.moe
        assert moe.router is not None and moe.shared is not None and moe.experts is not None
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.attention_norm, self.moe_norm = layer.attention_norm.weight, layer.moe_norm.weight
        self.qkv = torch.cat([projection.weight for projection in projections])
        self.qkv_bias = torch.cat([projection.bias for projection in projections])
        self.o = attention.o_proj.weight
        self.router = moe.router.weight
        self.shared_gate_up, self.shared_down = moe.shared.gate_up, moe.shared.down
        self.gate_up, self.down = list(moe.experts.gate_up.unbind(0)), list(moe.experts.down.unbind(0))
        self.key = self.value = torch.empty(0)


class TightTorch:
    """`generation.LanguageModel`; probability weighting, Top-P, shared experts. Shares the weights of `model`."""

    def __init__(self, model: UniMoE, capacity: int) -> None:
        config = model.config
        assert config.weighting == "probability" and config.selection == "top_p" and config.qkv_bias
        self._model, self._config, self._capacity = model, config, capacity
        with torch.inference_mode():
            self._layers = [_Layer(layer) for layer in model.layers if isinstance(layer, Layer)]
        self._eager = TorchLanguageModel(model)
        self._filled = 0
        index = torch.arange(config.num_dynamic_experts)
        self._lower_EE = index[None, :] < index[:, None]
        self._offset_K = torch.arange(config.num_codebooks) * config.codec_vocab_size
        self._mask_B11S = torch.zeros(0)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt) -> None:
        """The model's own prefill; its cache is copied into ours."""
        config = self._config
        mask_BT = torch.from_numpy(prompt.mask_BT)
        embedded_BTC = self._model.embed(torch.from_numpy(prompt.text_ids_BT))
        output = self._model(embedded_BTC, torch.from_numpy(prompt.positions), mask_BT)
        rows, self._filled = prompt.text_ids_BT.shape
        for layer, (key_BGSD, value_BGSD) in zip(self._layers, output.caches, strict=True):
            layer.key = torch.zeros(rows, config.num_kv_heads, self._capacity, config.head_dim)
            layer.value = torch.zeros_like(layer.key)
            layer.key[:, :, : self._filled], layer.value[:, :, : self._filled] = key_BGSD, value_BGSD
        self._mask_B11S = torch.zeros(rows, 1, 1, self._capacity, dtype=torch.bool)
        self._mask_B11S[:, 0, 0, : self._filled] = mask_BT

    @torch.inference_mode()
    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        config, slot = self._config, self._filled
        self._mask_B11S[..., slot] = True
        used = slot + 1
        mask_B11S = self._mask_B11S[..., :used]
        cos_BTD, sin_BTD = (torch.from_numpy(table).unsqueeze(1) for table in rotary(position_B[:, None], config))
        hidden_BC = self._model.codec_embedding(torch.from_numpy(codes_BK) + self._offset_K).sum(dim=1)
        for layer in self._layers:
            hidden_BC = self._attend(layer, hidden_BC, cos_BTD, sin_BTD, mask_B11S, slot)
            hidden_BC = self._feed_forward(layer, hidden_BC)
        self._filled = used
        hidden_BC = _norm(hidden_BC, self._model.final_norm.weight, config.rms_norm_eps)
        logits = F.linear(hidden_BC, self._model.codec_head.weight)
        return logits.view(len(codes_BK), config.num_codebooks, config.codec_vocab_size).numpy()

    def _attend(
        self,
        layer: _Layer,
        hidden_BC: torch.Tensor,
        cos_B11D: torch.Tensor,
        sin_B11D: torch.Tensor,
        mask_B11S: torch.Tensor,
        slot: int,
    ) -> torch.Tensor:
        config = self._config
        heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
        normed_BC = _norm(hidden_BC, layer.attention_norm, config.rms_norm_eps)
        qkv_BH1D = F.linear(normed_BC, layer.qkv, layer.qkv_bias).view(len(hidden_BC), -1, 1, size)
        turned = qkv_BH1D[:, : heads + kv_heads]
        left, right = turned.chunk(2, dim=-1)
        turned = torch.addcmul(turned * cos_B11D, torch.cat([-right, left], dim=-1), sin_B11D)
        layer.key[:, :, slot], layer.value[:, :, slot] = turned[:, heads:, 0], qkv_BH1D[:, heads + kv_heads :, 0]
        # Queries that share a key head are rows of one product, which is three times faster here than `enable_gqa`.
        query_BGXD = turned[:, :heads].view(len(hidden_BC), kv_heads, heads // kv_heads, size)
        key_BGSD, value_BGSD = layer.key[:, :, : slot + 1], layer.value[:, :, : slot + 1]
        attended = F.scaled_dot_product_attention(query_BGXD, key_BGSD, value_BGSD, attn_mask=mask_B11S)
        return torch.addmm(hidden_BC, attended.view(len(hidden_BC), -1), layer.o.t())

    def _feed_forward(self, layer: _Layer, hidden_BC: torch.Tensor) -> torch.Tensor:
        config = self._config
        normed_BC = _norm(hidden_BC, layer.moe_norm, config.rms_norm_eps)
        logits_BE = F.linear(normed_BC, layer.router)
        own, other = logits_BE.unsqueeze(2), logits_BE.unsqueeze(1)
        before_BEE = (other > own) | ((other == own) & self._lower_EE)
        probs_BE = logits_BE.softmax(dim=1)
        picked_BE = (before_BEE * probs_BE.unsqueeze(1)).sum(dim=2) < config.top_p
        kept_BE = probs_BE * picked_BE
        weights_BE = kept_BE / kept_BE.sum(dim=1, keepdim=True)
        accumulator_BC = torch.addmm(
            hidden_BC, _swiglu(F.linear(normed_BC, layer.shared_gate_up)), layer.shared_down.t()
        )
        columns = zip(*weights_BE.tolist(), strict=True)
        for expert, column in enumerate(columns):
            if expert < config.num_routed_experts and any(column):
                inner = _swiglu(F.linear(normed_BC, layer.gate_up[expert])) * weights_BE[:, expert : expert + 1]
                accumulator_BC.addmm_(inner, layer.down[expert].t())
        return accumulator_BC


def _norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return F.rms_norm(x, weight.shape, weight, epsilon)


def _swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)
