"""Coverage: how many tokens each expert really received. With Top-P routing it cannot be known in advance.

L layers · E dynamic experts (routed, then null)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from unimoe_runtime.bundle.reader import Bundle

from .statistics import Counts, Statistics


@dataclass(frozen=True, kw_only=True, eq=False)
class Coverage:
    """Tokens by layer and expert for each domain, and the floor that every routed expert should reach over all.

    `picks` holds a domain's picks_LE, the null experts last; `num_tokens` the tokens that each trunk saw.
    """

    floor: int
    num_routed: int
    picks: Mapping[str, Counts]
    num_tokens: Mapping[str, int]

    @classmethod
    def of(cls, statistics: Statistics, bundle: Bundle, floor: int) -> Self:
        return cls(
            floor=floor,
            num_routed=bundle.model.num_routed_experts,
            picks=dict(sorted(statistics.tokens.items())),
            num_tokens=dict(sorted(statistics.num_tokens.items())),
        )

    @property
    def total(self) -> Counts:
        """picks_LE over all domains."""
        return np.asarray(sum(self.picks.values()))

    def below(self) -> dict[tuple[int, int], int]:
        """Tokens of each (layer, routed expert) that received fewer than the floor."""
        routed = self.total[:, : self.num_routed]
        return {
            (int(layer), int(expert)): int(routed[layer, expert]) for layer, expert in np.argwhere(routed < self.floor)
        }

    def null_shares(self) -> list[float]:
        """By layer, the share of the picks that went to a null expert."""
        total = self.total
        shares: list[float] = (total[:, self.num_routed :].sum(axis=1) / np.maximum(total.sum(axis=1), 1)).tolist()
        return shares

    def warnings(self, bundle: Bundle) -> list[str]:
        """What limits the trust in the result, one line each."""
        lines = []
        missing = sorted(set(bundle.sampling) - set(self.picks))
        if bundle.frontend_dir is not None and missing:
            lines.append(
                f"the data are {' and '.join(self.picks)} only, and the bundle also makes {' and '.join(missing)}: "
                "ranges may not fit those"
            )
        below = self.below()
        if below:
            (layer, expert), tokens = min(below.items(), key=lambda entry: entry[1])
            count = "expert" if len(below) == 1 else "experts"
            lines.append(
                f"{len(below)} {count} received fewer than {self.floor:,} tokens, the least (layer {layer}, expert "
                f"{expert}) {tokens:,}"
            )
        return lines

    def record(self) -> dict[str, Any]:
        """The coverage as JSON."""
        return {
            "floor": self.floor,
            "tokens": dict(self.num_tokens),
            "routed": {domain: picks[:, : self.num_routed].tolist() for domain, picks in self.picks.items()},
            "null": {domain: picks[:, self.num_routed :].tolist() for domain, picks in self.picks.items()},
            "below": [
                {"layer": layer, "expert": expert, "tokens": tokens} for (layer, expert), tokens in self.below().items()
            ],
        }

    def parts(self) -> dict[str, Counts]:
        """Picks by domain. With several domains, their sum comes first."""
        return {"all": self.total, **self.picks} if len(self.picks) > 1 else dict(self.picks)

    def rows(self) -> list[tuple[str, ...]]:
        """The table: a line for each layer and part."""
        shares = self.null_shares()
        parts = self.parts()
        lines = []
        for layer, share in enumerate(shares):
            for place, (domain, picks) in enumerate(parts.items()):
                counts = [str(count) for count in picks[layer, : self.num_routed]]
                lines.append(
                    (str(layer) if not place else "", domain, *counts, f"{100 * share:.0f} %" if not place else "")
                )
        return lines


def draw_heat_map(coverage: Coverage, path: Path) -> None:
    """A PNG: tokens by layer and expert, a panel for each domain. Counts below the floor have a red frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    parts = coverage.parts()
    layers, experts = coverage.total.shape
    labels = [f"{e}" if e < coverage.num_routed else "null" for e in range(experts)]
    figure = Figure(figsize=(1.8 + 0.68 * experts, (0.9 + 0.32 * layers) * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    norm = LogNorm(vmin=1, vmax=max(int(coverage.total.max(initial=1)), 2))
    below = coverage.below()
    for axes, (domain, picks) in zip(figure.subplots(len(parts), 1, squeeze=False)[:, 0], parts.items(), strict=True):
        axes.imshow(np.maximum(picks, 1), norm=norm, cmap="Blues", aspect="auto")
        tokens = coverage.num_tokens.get(domain, sum(coverage.num_tokens.values()))
        framed = f"; red frame: below the floor of {coverage.floor:,}" if domain == next(iter(parts)) else ""
        axes.set_title(f"{domain}: {tokens:,} tokens{framed}", fontsize=9)
        axes.set_xticks(range(experts), labels)
        axes.set_yticks(range(layers))
        axes.set_ylabel("layer")
        for layer in range(layers):
            for expert in range(experts):
                count = int(picks[layer, expert])
                axes.text(
                    expert, layer, f"{count:,}", ha="center", va="center", fontsize=8,
                    color="white" if norm(max(count, 1)) > 0.75 else "black",
                )  # fmt: skip
                if (layer, expert) in below and domain == next(iter(parts)):
                    frame = (expert - 0.47, layer - 0.45)
                    axes.add_patch(Rectangle(frame, 0.94, 0.9, fill=False, edgecolor="#c8503f", linewidth=1.8))
    figure.axes[-1].set_xlabel("expert")
    # Without version and date, the same coverage gives the same file.
    figure.savefig(path, dpi=120, metadata={"Software": None})
