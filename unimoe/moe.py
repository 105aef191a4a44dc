"""Dynamic-Capacity MoE block: router, routed SwiGLU experts with grouped dispatch, fused shared experts.

Shape suffixes: B rows, T positions, N tokens = B·T, C hidden, I intermediate, E routed experts, S shared experts,
A assignments (token, routed expert), sorted by expert.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig
from .router import Router, Routing


class _GroupedLinear(torch.autograd.Function):
    """x_AC @ weight[e].T for the rows of expert e.

    Writes each expert's product directly into the result and its gradient. Concatenating or stacking per-expert
    results would cost copies.
    """

    @staticmethod
    def forward(ctx: Any, x_AC: Tensor, weight_EOC: Tensor, counts: list[int]) -> Tensor:
        ctx.save_for_backward(x_AC, weight_EOC)
        ctx.counts = counts
        out_AO = x_AC.new_empty(x_AC.shape[0], weight_EOC.shape[1])
        for rows, weight_OC, out in zip(x_AC.split(counts), weight_EOC, out_AO.split(counts), strict=True):
            torch.mm(rows, weight_OC.t(), out=out)
        return out_AO

    @staticmethod
    def backward(ctx: Any, grad_AO: Tensor) -> tuple[Tensor, Tensor, None]:
        x_AC, weight_EOC = ctx.saved_tensors
        grad_x_AC, grad_weight_EOC = torch.empty_like(x_AC), torch.empty_like(weight_EOC)
        slices = zip(
            grad_AO.split(ctx.counts), x_AC.split(ctx.counts), grad_x_AC.split(ctx.counts),
            weight_EOC, grad_weight_EOC, strict=True,
        )  # fmt: skip
        for grad, rows, grad_rows, weight_OC, grad_weight_OC in slices:
            torch.mm(grad, weight_OC, out=grad_rows)
            torch.mm(grad.t(), rows, out=grad_weight_OC)
        return grad_x_AC, grad_weight_EOC, None


def grouped_linear(x_AC: Tensor, weight_EOC: Tensor, counts_E: Tensor) -> Tensor:
    """x_AC @ weight[e].T, where expert e has the next counts[e] rows.

    In bfloat16 under autocast, otherwise in the inputs' precision. A GPU computes it as one grouped product; on a CPU
    that is slower than one product an expert.
    """
    # The grouped product requires rows of whole 16 bytes.
    aligned = not (weight_EOC.shape[1] % 8 or weight_EOC.shape[2] % 8)
    if torch.is_autocast_enabled(x_AC.device.type):
        x_AC, weight_EOC = x_AC.bfloat16(), weight_EOC.bfloat16()
        if aligned and x_AC.device.type != "cpu" and hasattr(F, "grouped_mm"):
            return one_grouped_product(x_AC, weight_EOC, counts_E)
    out_AO: Tensor = _GroupedLinear.apply(x_AC, weight_EOC, counts_E.tolist())  # type: ignore[no-untyped-call]
    return out_AO


def one_grouped_product(x_AC: Tensor, weight_EOC: Tensor, counts_E: Tensor) -> Tensor:
    """`grouped_linear` of bfloat16 tensors as one operation of PyTorch."""
    return F.grouped_mm(x_AC, weight_EOC.transpose(1, 2), offs=counts_E.cumsum(dim=0, dtype=torch.int32))


class RoutedExperts(nn.Module):
    """SwiGLU experts with stacked weights. Only picked (token, expert) pairs are computed."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        num_experts, width, hidden = config.num_routed_experts, config.routed_intermediate_size, config.hidden_size
        self.gate_up = nn.Parameter(torch.empty(num_experts, 2 * width, hidden))
        self.down = nn.Parameter(torch.empty(num_experts, hidden, width))

    def forward(self, accumulator_NC: Tensor, hidden_NC: Tensor, weights_NE: Tensor, picked_NE: Tensor) -> Tensor:
        """Add each picked expert's weighted output to the accumulator."""
        # In row-major order, the transposed mask is sorted by expert, so one pass gives the sorted assignments.
        expert_A, token_A = picked_NE.t().nonzero(as_tuple=True)
        counts_E = picked_NE.sum(dim=0)
        weights_A = weights_NE.flatten().index_select(0, token_A * weights_NE.shape[1] + expert_A)
        gate_up_AI = grouped_linear(hidden_NC.index_select(0, token_A), self.gate_up, counts_E)
        gate_AI, up_AI = gate_up_AI.chunk(2, dim=1)
        # Weighting the inner activation instead of the output gives the same product on the narrower side.
        inner_AI = F.silu(gate_AI) * up_AI * weights_A.unsqueeze(1)
        out_AC = grouped_linear(inner_AI.to(hidden_NC.dtype), self.down, counts_E)
        return accumulator_NC.index_add(0, token_A, out_AC.to(accumulator_NC.dtype))


class SharedExperts(nn.Module):
    """SwiGLU experts that run for every token, as one wide matrix product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_experts = config.num_shared_experts
        width = config.num_shared_experts * config.shared_intermediate_size
        self.gate_up = nn.Parameter(torch.empty(2 * width, config.hidden_size))
        self.down = nn.Parameter(torch.empty(config.hidden_size, width))

    def forward(self, hidden_NC: Tensor, weights_NS: Tensor | None) -> Tensor:
        gate_NI, up_NI = F.linear(hidden_NC, self.gate_up).chunk(2, dim=1)
        inner_NI = F.silu(gate_NI) * up_NI
        if weights_NS is not None:
            inner_NSI = inner_NI.unflatten(1, (self.num_experts, -1)) * weights_NS.unsqueeze(2)
            inner_NI = inner_NSI.flatten(1).to(hidden_NC.dtype)
        return F.linear(inner_NI, self.down)


class MoE(nn.Module):
    """The feed-forward layer. Without dynamic experts and with probability weighting it is a plain dense SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.router = Router(config) if config.num_router_rows else None
        self.experts = RoutedExperts(config) if config.num_routed_experts else None
        self.shared = SharedExperts(config) if config.num_shared_experts else None

    def forward(
        self, hidden_BTC: Tensor, routable_BT: Tensor | None = None, aux_weight_BT: Tensor | None = None
    ) -> tuple[Tensor, Routing | None]:
        """Output [B, T, C] (without the residual), and the routing, which is None for a dense layer.

        No dynamic expert runs where `routable_BT` is False. `aux_weight_BT` weights tokens in the auxiliary loss.
        """
        hidden_NC = hidden_BTC.flatten(0, 1)
        if self.training and self.config.input_jitter_noise:
            noise = self.config.input_jitter_noise
            hidden_NC = hidden_NC * torch.empty_like(hidden_NC).uniform_(1.0 - noise, 1.0 + noise)
        routing = None
        if self.router is not None:
            routing = self.router(
                hidden_NC,
                None if routable_BT is None else routable_BT.flatten(),
                None if aux_weight_BT is None else aux_weight_BT.flatten(),
            )
        if self.shared is not None:
            out_NC = self.shared(hidden_NC, None if routing is None else routing.shared_weights_NS)
        else:
            out_NC = torch.zeros_like(hidden_NC)
        if self.experts is not None and routing is not None:
            num_routed = self.config.num_routed_experts
            out_NC = self.experts(
                out_NC, hidden_NC, routing.weights_NE[:, :num_routed], routing.picked_NE[:, :num_routed]
            )
        return out_NC.unflatten(0, hidden_BTC.shape[:2]), routing
