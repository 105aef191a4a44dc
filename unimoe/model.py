"""The decoder: text and codec embeddings, layers of attention and Dynamic-Capacity MoE, one head for all codebooks.

Shape suffixes: B rows, T positions, S cached and new positions, C hidden, K codebooks, V ids of one codebook,
P codec rows of a prompt, D head dim. Video: V tokens of a prompt's clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attention, LayerCache, rotary
from .config import ModelConfig
from .moe import MoE
from .router import Routing


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelOutput:
    """Results of a pass. `hidden_BTC` comes after the final norm; `UniMoE.logits` converts chosen positions to logits.

    `aux_loss`: mean over the layers of the load-balancing loss (0 for a dense model). `routings`: one for each MoE
    layer. `log_attention`: layer -> log attention probabilities [B, T, S] of the requested head. `caches`: one for each
    layer.
    """

    hidden_BTC: Tensor
    aux_loss: Tensor
    routings: tuple[Routing, ...]
    caches: tuple[LayerCache, ...]
    log_attention: Mapping[int, Tensor] = field(default_factory=dict)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, kw_only=True)
class SharedInputs:
    """Inputs that all layers of a pass share. `Attention` and `MoE` explain the fields."""

    cos_BTD: Tensor
    sin_BTD: Tensor
    mask_B1TS: Tensor | None
    routable_BT: Tensor | None
    aux_weight_BT: Tensor | None


class Layer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config)
        self.moe_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.moe = MoE(config)

    def forward(
        self, hidden_BTC: Tensor, shared: SharedInputs, past: LayerCache | None, log_mass_head: int | None
    ) -> tuple[Tensor, Routing | None, LayerCache, Tensor | None]:
        attended_BTC, cache, log_mass_BTS = self.attention(
            self.attention_norm(hidden_BTC), shared.cos_BTD, shared.sin_BTD, shared.mask_B1TS, past, log_mass_head
        )
        hidden_BTC = hidden_BTC + attended_BTC
        moe_BTC, routing = self.moe(self.moe_norm(hidden_BTC), shared.routable_BT, shared.aux_weight_BT)
        return hidden_BTC + moe_BTC, routing, cache, log_mass_BTS


class UniMoE(nn.Module):
    """UniMoE-Audio's decoder over text and neural-codec tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.text_embedding = nn.Embedding(config.text_vocab_size, config.hidden_size)
        # One table for all codebooks: codebook c owns rows c·V … (c + 1)·V - 1.
        self.codec_embedding = nn.Embedding(config.num_codebooks * config.codec_vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.codec_head = nn.Linear(config.hidden_size, config.num_codebooks * config.codec_vocab_size, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights of variance 1 / fan-in. Those that write to the residual stream shrink with depth."""
        residual_scale = (2 * self.config.num_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                scale = residual_scale if name.endswith(("o_proj.weight", "down")) else 1.0
                parameter.normal_(std=scale * parameter.shape[-1] ** -0.5)

    def embed_codes(self, codes_K: Tensor) -> Tensor:
        """Sum over the codebooks of their embeddings: [..., K] -> [..., C]."""
        offset_K = torch.arange(self.config.num_codebooks, device=codes_K.device) * self.config.codec_vocab_size
        return self.codec_embedding(codes_K + offset_K).sum(dim=-2)

    def embed(
        self,
        text_ids_BT: Tensor,
        codec_ids_PK: Tensor | None = None,
        placeholder_id: int = -1,
        video_embeddings_VC: Tensor | None = None,
        video_token_id: int = -1,
    ) -> Tensor:
        """Embeddings [B, T, C]. The P-th placeholder, in row order, becomes the P-th codec row, the V-th video token
        becomes the V-th video embedding.

        The placeholder and the video token need not be ids of the text vocabulary.
        """
        is_codec_BT, is_video_BT = text_ids_BT == placeholder_id, text_ids_BT == video_token_id
        embedded_BTC = self.text_embedding(text_ids_BT.masked_fill(is_codec_BT | is_video_BT, 0))
        if codec_ids_PK is not None:
            embedded_BTC = _put(embedded_BTC, is_codec_BT, self.embed_codes(codec_ids_PK))
        if video_embeddings_VC is not None:
            embedded_BTC = _put(embedded_BTC, is_video_BT, video_embeddings_VC)
        return embedded_BTC

    def logits(self, hidden_C: Tensor) -> Tensor:
        """Codec logits of final hidden states: [..., C] -> [..., K, V]."""
        return self.codec_head(hidden_C).unflatten(-1, (self.config.num_codebooks, self.config.codec_vocab_size))

    def forward(
        self,
        embedded_BTC: Tensor,
        positions: Tensor,
        mask_BS: Tensor | None = None,
        *,
        caches: tuple[LayerCache, ...] | None = None,
        aux_weight_BT: Tensor | None = None,
        log_attention_heads: Mapping[int, int] | None = None,
    ) -> ModelOutput:
        """Run the layers over embeddings (`embed`, `embed_codes`).

        `positions`: [B, T] or [3, B, T], int or float. `mask_BS`: True for tokens, False for padding, over cached
        and new positions. Padding is on the left or on the right, receives no attention and uses no dynamic expert.
        `caches`: those of an earlier output, which this pass continues. `log_attention_heads`: layer -> head whose log
        attention probabilities are requested.
        """
        num_new = embedded_BTC.shape[1]
        cos_BTD, sin_BTD = rotary(positions, self.config)
        num_past = 0 if caches is None else caches[0][0].shape[2]
        shared = SharedInputs(
            cos_BTD=cos_BTD,
            sin_BTD=sin_BTD,
            mask_B1TS=_attention_mask(mask_BS, num_new, num_past, embedded_BTC),
            routable_BT=None if mask_BS is None else mask_BS[:, -num_new:],
            aux_weight_BT=aux_weight_BT,
        )
        heads = log_attention_heads or {}
        hidden_BTC, routings, new_caches, log_attention = embedded_BTC, [], [], {}
        for index, layer in enumerate(self.layers):
            past = None if caches is None else caches[index]
            hidden_BTC, routing, cache, log_mass_BTS = layer(hidden_BTC, shared, past, heads.get(index))
            new_caches.append(cache)
            if routing is not None:
                routings.append(routing)
            if log_mass_BTS is not None:
                log_attention[index] = log_mass_BTS
        return ModelOutput(
            hidden_BTC=self.final_norm(hidden_BTC),
            aux_loss=torch.stack([r.aux_loss for r in routings]).mean() if routings else hidden_BTC.new_zeros(()),
            routings=tuple(routings),
            caches=tuple(new_caches),
            log_attention=log_attention,
        )


def _put(embedded_BTC: Tensor, where_BT: Tensor, rows_C: Tensor) -> Tensor:
    """The embeddings, with rows [number of places, C] written where `where_BT` is True, in row order."""
    place = where_BT.flatten().nonzero().squeeze(1)
    return embedded_BTC.flatten(0, 1).index_copy(0, place, rows_C.to(embedded_BTC.dtype)).view_as(embedded_BTC)


def _attention_mask(mask_BS: Tensor | None, num_new: int, num_past: int, like: Tensor) -> Tensor | None:
    """True where a query may attend, [B, 1, T, S]; None where plain causal attention is equivalent."""
    if not num_past and (mask_BS is None or bool(mask_BS[:, 0].all())):
        return None  # padding on the right lies in the future of every token
    num_keys = num_past + num_new
    query_T = torch.arange(num_past, num_keys, device=like.device)
    key_S = torch.arange(num_keys, device=like.device)
    causal_TS = key_S[None, :] <= query_T[:, None]
    if mask_BS is None:
        return causal_TS[None, None].expand(like.shape[0], 1, -1, -1)
    # A padded query attends to itself: a softmax over nothing is NaN and would spread through its value.
    itself_TS = key_S[None, :] == query_T[:, None]
    return ((causal_TS & mask_BS[:, None, :]) | itself_TS).unsqueeze(1)
