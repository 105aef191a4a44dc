"""Residual vector quantization with codebooks learnt by exponential moving averages.

Shapes: B rows, T frames, N = B x T, D latent, K codebooks, V codes of a codebook.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def nearest_codes(residual_ND: Tensor, codebook_VD: Tensor) -> Tensor:
    """Index of the nearest code by Euclidean distance, the first where several are equal: argmin of |c|^2 - 2 r.c."""
    return (codebook_VD.square().sum(-1) - 2 * residual_ND @ codebook_VD.T).argmin(-1)


class ResidualQuantizer(nn.Module):
    """A residual quantizer: each codebook quantizes the residual of the previous ones.

    Only the tensor `weight` [K, V, D] is part of the model. The averages of training (van den Oord et al. 2017,
    appendix A.1) are buffers that only the training state saves.
    """

    weight: Tensor
    usage_KV: Tensor
    sum_KVD: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_codebooks, codebook_size, latent_size))
        self.register_buffer("usage_KV", torch.ones(num_codebooks, codebook_size), persistent=False)
        self.register_buffer("sum_KVD", torch.zeros(num_codebooks, codebook_size, latent_size), persistent=False)

    def encode(self, latent_BTD: Tensor) -> Tensor:
        """Codes codes_BKT."""
        residual_ND = latent_BTD.reshape(-1, latent_BTD.shape[-1])
        codes = []
        for codebook_VD in self.weight:
            codes.append(nearest_codes(residual_ND, codebook_VD))
            residual_ND = residual_ND - codebook_VD[codes[-1]]
        return torch.stack(codes).reshape(len(codes), *latent_BTD.shape[:2]).transpose(0, 1)

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Sum of the codebooks' vectors, latent_BTD."""
        return torch.stack([book[codes_BKT[:, k]] for k, book in enumerate(self.weight)]).sum(0)

    def forward(self, latent_BTD: Tensor, generator: torch.Generator, decay: float = 0.98) -> tuple[Tensor, Tensor]:
        """Quantize for training and update the codebooks. Returns straight-through latent and commitment loss."""
        latent_ND = latent_BTD.reshape(-1, latent_BTD.shape[-1])
        residual_ND = latent_ND
        commitment = latent_BTD.new_zeros(())
        for k in range(len(self.weight)):
            codes_N = nearest_codes(residual_ND.detach(), self.weight[k])
            chosen_ND = self.weight[k][codes_N]
            commitment = commitment + (residual_ND - chosen_ND).square().mean()
            self._update(k, residual_ND.detach(), codes_N, decay, generator)
            residual_ND = residual_ND - chosen_ND
        quantized_ND = latent_ND + (latent_ND - residual_ND - latent_ND).detach()
        return quantized_ND.reshape(latent_BTD.shape), commitment / len(self.weight)

    @torch.no_grad()
    def _update(self, k: int, residual_ND: Tensor, codes_N: Tensor, decay: float, generator: torch.Generator) -> None:
        """Move each code to the average of the vectors that chose it. Reset codes that almost no vector chooses."""
        count_V = torch.bincount(codes_N, minlength=self.weight.shape[1]).to(residual_ND.dtype)
        sum_VD = torch.zeros_like(self.weight[k]).index_add_(0, codes_N, residual_ND)
        self.usage_KV[k].mul_(decay).add_(count_V, alpha=1 - decay)
        self.sum_KVD[k].mul_(decay).add_(sum_VD, alpha=1 - decay)
        self.weight[k] = self.sum_KVD[k] / self.usage_KV[k].clamp(min=1e-6)[:, None]
        fair_share = len(residual_ND) / self.weight.shape[1]
        dead_V = (self.usage_KV[k] < 0.05 * fair_share).nonzero().flatten()
        if len(dead_V) > 0:
            rows = torch.randint(len(residual_ND), (len(dead_V),), generator=generator)
            self._place(k, dead_V, residual_ND[rows], fair_share / 2)

    def _place(self, k: int, which_V: Tensor, vectors_VD: Tensor, usage: float) -> None:
        self.weight[k, which_V] = vectors_VD
        self.usage_KV[k, which_V] = usage
        self.sum_KVD[k, which_V] = vectors_VD * usage

    @torch.no_grad()
    def initialise(self, latent_ND: Tensor, generator: torch.Generator, num_rounds: int = 10) -> None:
        """Initialise all codebooks by k-means (Lloyd's algorithm), each on the residual of the previous ones."""
        residual_ND = latent_ND
        num_codes = self.weight.shape[1]
        for k in range(len(self.weight)):
            book_VD = residual_ND[torch.randperm(len(residual_ND), generator=generator)[:num_codes]].clone()
            for _ in range(num_rounds):
                codes_N = nearest_codes(residual_ND, book_VD)
                count_V = torch.bincount(codes_N, minlength=num_codes).to(book_VD.dtype)
                sum_VD = torch.zeros_like(book_VD).index_add_(0, codes_N, residual_ND)
                book_VD = torch.where(count_V[:, None] > 0, sum_VD / count_V.clamp(min=1)[:, None], book_VD)
            self._place(k, torch.arange(num_codes), book_VD, len(residual_ND) / num_codes)
            residual_ND = residual_ND - book_VD[nearest_codes(residual_ND, book_VD)]
