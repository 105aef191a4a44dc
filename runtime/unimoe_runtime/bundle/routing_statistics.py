"""How many routed experts a step launches: recorded from generations, or assumed if there is no record.

L layers · R routed experts · K launched experts of a step, over all layers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.json import read_json

Floats = NDArray[np.float64]

FORMAT = "unimoe-routing"
FORMAT_VERSION = 1
SECTION = "routing_statistics"
"""The optional section of the manifest with the same record."""

GUIDED_ROWS = 2
# Assumptions without a record: the mean number of experts that a row picks with Top-P, with independent rows. The
# bounds: all rows agree on one expert, or they pick three quarters of all.
_ASSUMED_PICKS = 2.0
_ASSUMED_MOST = 0.75


@dataclass(frozen=True, kw_only=True, eq=False)
class Activation:
    """Experts launched per step, as the union over `rows` rows.

    `launched_LK`: for each layer the share of the steps in which 0, 1, … R experts ran. `share_LR`: share of the steps
    in which each expert ran. `low`, `high`: bounds of the mean number of experts per step.
    """

    source: str
    rows: int
    launched_LK: Floats
    share_LR: Floats
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Mean number of experts launched per step, over all layers."""
        return float(self.share_LR.sum())

    def quantile(self, share: float) -> int:
        """Experts launched in a step that this share of the steps does not exceed, as if layers were independent."""
        total_K = np.ones(1)
        for launched_K in self.launched_LK:
            total_K = np.convolve(total_K, launched_K)
        return int(np.searchsorted(total_K.cumsum(), share - 1e-9))

    def resident_share(self, resident_LR: NDArray[np.bool_]) -> float:
        """Share of all launches whose expert is resident."""
        return float(self.share_LR[resident_LR].sum() / self.mean) if self.mean else 1.0


def assumed_activation(model: ModelConfig) -> Activation:
    """An assumed distribution, for bundles without a record; its source says so."""
    routed, layers = model.num_routed_experts, model.num_layers
    picks = min(_ASSUMED_PICKS, float(routed))
    if model.selection == "top_k":
        picks = model.top_k * routed / max(model.num_dynamic_experts, 1)
    launched = 1 - (1 - picks / routed) ** GUIDED_ROWS if routed else 0.0
    launched_K = np.ones(1)
    for _ in range(routed):  # the binomial distribution, without coefficients that overflow
        launched_K = np.convolve(launched_K, (1 - launched, launched))
    return Activation(
        source=f"assumed, not recorded: a row picks {picks:g} of {routed} experts, rows independently",
        rows=GUIDED_ROWS,
        launched_LK=np.tile(launched_K, (layers, 1)),
        share_LR=np.full((layers, routed), launched),
        low=float(layers * min(1, routed)),
        high=layers * routed * max(_ASSUMED_MOST, launched),
    )


def parse_activation(record: Mapping[str, Any], model: ModelConfig, source: str) -> Activation:
    """Read a record {"rows", "tasks": {task: {"steps", "launched_histogram" [L][R + 1], "launch_share" [L][R]}}}.

    Tasks are weighted by their steps; `low` and `high` are the extremes of the tasks. Raises ConfigError, one line, if
    the record is malformed or belongs to another model.
    """
    layers, routed = model.num_layers, model.num_routed_experts
    try:
        tasks = [
            (
                float(task["steps"]),
                np.array(task["launched_histogram"], dtype=np.float64),
                np.array(task["launch_share"], dtype=np.float64),
            )
            for task in record["tasks"].values()
        ]
        rows = int(record["rows"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ConfigError(f"{source}: no record of which experts ran in this model; record it again") from None
    shapes = {(histogram.shape, shares.shape) for _, histogram, shares in tasks}
    if shapes != {((layers, routed + 1), (layers, routed))}:
        raise ConfigError(
            f"{source}: recorded from another model: this one has {layers} layers of {routed} routed experts"
        )
    steps = sum(count for count, _, _ in tasks)
    if not steps > 0:
        raise ConfigError(f"{source}: recorded no step; record it again")
    means = [float(share_LR.sum()) for _, _, share_LR in tasks]
    histogram_LK = sum(histogram for _, histogram, _ in tasks)
    return Activation(
        source=f"recorded over {steps:.0f} steps ({source})",
        rows=rows,
        launched_LK=np.asarray(histogram_LK / np.sum(histogram_LK, axis=1, keepdims=True)),
        share_LR=np.asarray(sum(count * share_LR for count, _, share_LR in tasks) / steps),
        low=min(means),
        high=max(means),
    )


def read_activation(path: Path, model: ModelConfig) -> Activation:
    """Read a file: the result of `record_routing`, or the JSON of `unimoe profile`. Raises ConfigError."""
    record = read_json(path, ConfigError)
    try:
        if record.get("format") == "unimoe-profile":
            runs = [run for run in record["runs"] if run["setting"]["rows"] == GUIDED_ROWS] or record["runs"]
            record = {"rows": runs[0]["setting"]["rows"], "tasks": runs[0]["tasks"]}
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as routing statistics ({error})") from None
    return parse_activation(record, model, str(path))


def bundled_activation(bundle: Bundle) -> Activation | None:
    """Read the manifest's section; None if there is none. Raises BundleError if the section is damaged."""
    record = bundle.manifest.get(SECTION)
    if record is None:
        return None
    try:
        return parse_activation(record, bundle.model, f"{bundle.path.name}'s manifest")
    except ConfigError as error:
        raise BundleError(f"{bundle.path}/manifest.json: {error}; export or calibrate the bundle again") from None
