"""A target's costs: for a GPU from its row of the table, for this CPU from the measurement.

A GPU's figures other than bandwidth are assumptions; none was measured. Each has a best and a worst value, and a plan
states both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.hardware.targets import Target
from unimoe_tools.planning.roofline import Costs
from unimoe_tools.units import percent

# Share of the maker's bandwidth that products of two rows reach.
_EFFICIENCY = (0.85, 0.70, 0.50)
# Seconds of a captured graph: about fifteen dependent kernels of a trunk, with the router's read-back and its wait;
# four kernels of an expert; inputs, copy of the logits and sampling on the host.
_TRUNK_S = (25e-6, 45e-6, 90e-6)
_EXPERT_S = (6e-6, 12e-6, 25e-6)
_HOST_S = (0.25e-3, 0.45e-3, 0.9e-3)
# Over PCIe from the host's memory; from the drive where GPU and CPU share memory.
_LINK = (24e9, 14e9, 6e9)
_DRIVE = (3.0e9, 1.5e9, 0.5e9)
# Compute capabilities that share the CPU's memory. Their CPUs launch half as fast.
_SHARED_MEMORY = {(8, 7), (11, 0), (12, 1)}
_SLOWER_HOST = 2.0
# Bytes of the engines' workspaces, the context and, where memory is shared, the system.
_TAKEN = 0.8e9
_TAKEN_SHARED = 2.5e9

# The possible error of a prediction for a measured CPU (benchmarks/plan_backtest.py).
_HOST_ERROR = 0.2
_HOST_MEMORY = 0.8  # share of the host's memory that a model may use

BEST, MIDDLE, WORST = range(3)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A target's costs (best, middle and worst), its memory for a model, and the basis of these figures."""

    costs: tuple[Costs, Costs, Costs]
    memory_bytes: float
    assumptions: tuple[str, ...]


def assumed_machine(target: Target) -> Machine:
    """A GPU of the table. Raises ConfigError where its row has no memory or bandwidth."""
    bandwidth, memory = target.bandwidth_gb_per_s, target.memory_gb
    if bandwidth is None or memory is None:
        raise ConfigError(f"target {target.name}: a plan needs its memory_gb and bandwidth_gb_per_s in the table")
    shared = target.compute_capability in _SHARED_MEMORY
    slower = _SLOWER_HOST if shared else 1.0

    def costs(case: int) -> Costs:
        return Costs(
            bytes_per_s=1e9 * bandwidth * _EFFICIENCY[case],
            trunk_s=_TRUNK_S[case] * slower,
            expert_s=_EXPERT_S[case] * slower,
            head_s=_EXPERT_S[case] * slower,
            host_s=_HOST_S[case] * slower,
            miss_bytes_per_s=(_DRIVE if shared else _LINK)[case],
        )

    taken = _TAKEN_SHARED if shared else _TAKEN
    return Machine(
        costs=(costs(BEST), costs(MIDDLE), costs(WORST)),
        memory_bytes=max(1e9 * memory - taken, 0.0),
        assumptions=(
            f"{bandwidth:g} GB/s as the maker gives it, of which products of two rows reach "
            f"{percent(_EFFICIENCY[MIDDLE], 0)} ({percent(_EFFICIENCY[WORST], 0)} to {percent(_EFFICIENCY[BEST], 0)})",
            f"beyond its bytes a trunk takes {1e6 * slower * _TRUNK_S[MIDDLE]:.0f} µs with the read-back, an expert "
            f"{1e6 * slower * _EXPERT_S[MIDDLE]:.0f} µs, the host {1e3 * slower * _HOST_S[MIDDLE]:.1f} ms a step; half "
            "or twice as much is possible",
            f"{taken / 1e9:g} GB of its memory are taken by the engine" + (" and the system" if shared else ""),
            "a prompt's pass is bound by reading the weights: true up to some 200 tokens",
            f"an expert that is not in memory comes at {(_DRIVE if shared else _LINK)[MIDDLE] / 1e9:g} GB/s "
            f"{'from the drive' if shared else 'over PCIe'}",
        ),
    )


def measured_machine(host: Costs) -> Machine:
    """This CPU, from the measured costs of a layer of the planned model."""

    def costs(factor: float) -> Costs:
        return replace(
            host,
            trunk_s=host.trunk_s * factor,
            expert_s=host.expert_s * factor,
            head_s=host.head_s * factor,
            host_s=host.host_s * factor,
            flops_per_s=host.flops_per_s / factor,
        )

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        costs=(costs(1 - _HOST_ERROR), costs(1.0), costs(1 + _HOST_ERROR)),
        memory_bytes=_HOST_MEMORY * memory,
        assumptions=(
            f"measured here on one layer of these sizes, in random weights, at each precision; of the first: a trunk "
            f"takes {1e6 * host.trunk_s:.0f} µs, an expert {1e6 * host.expert_s:.0f} µs, the head "
            f"{1e6 * host.head_s:.0f} µs, inputs and sampling {1e6 * host.host_s:.0f} µs; the result may be off by "
            f"{percent(_HOST_ERROR, 0)}",
            f"{percent(_HOST_MEMORY, 0)} of this machine's memory may be taken; an expert beyond that comes from the "
            f"drive at {host.miss_bytes_per_s / 1e9:g} GB/s",
            "a prompt's pass is bound by float32 products, whatever the precision",
        ),
    )
