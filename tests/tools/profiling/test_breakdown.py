"""Marks become milliseconds by step, layer and expert, and routing."""

from __future__ import annotations

import numpy as np

from tests.random_checkpoint import tiny_config
from unimoe_tools.profiling.breakdown import Routing, break_down
from unimoe_tools.profiling.recorder import Marks, Part


def test_marks_become_milliseconds_by_step_layer_and_expert() -> None:
    config = tiny_config()
    listed = [
        (0, Part.PREFILL, -1, -1),
        (5, Part.INPUTS, -1, -1),
        (7, Part.TRUNK, 0, -1),
        (10, Part.READ_BACK, 0, -1),
        (11, Part.DISPATCH, 0, -1),
        (12, Part.EXPERT, 0, 2),
        (16, Part.DISPATCH, 0, -1),
        (17, Part.HEAD, -1, -1),
        (18, Part.SAMPLING, -1, -1),
        (20, Part.HOST, -1, -1),
        (21, Part.PROFILER, -1, -1),
        (31, Part.INPUTS, -1, -1),
        (32, Part.CODEC, -1, -1),
        (40, Part.END, -1, -1),
    ]
    times, parts, layers, experts = (np.array(column) for column in zip(*listed, strict=True))
    found = break_down(Marks(start_ns_M=times * 10**6, part_M=parts, layer_M=layers, expert_M=experts), config)
    assert found.prefill_ms == 5
    assert found.step_ms_S.tolist() == [15, 1]
    assert found.decode_ms == 15 + 1 + 1 + 8
    assert found.parts_SP[0, [Part.DISPATCH, Part.EXPERT, Part.PROFILER]].tolist() == [2, 4, 10]
    assert found.layers_LP[0, [Part.TRUNK, Part.READ_BACK]].tolist() == [3, 1]
    assert found.experts_LR[0].tolist() == [0, 0, 4, 0] and found.launches_LR.sum() == 1


def test_routing_counts_rows_apart_and_together() -> None:
    """Two rows, one layer, two experts. First both pick 0, one of them also null; then one picks 0, the other 1."""
    config = tiny_config(num_layers=1, num_routed_experts=2)
    parts = np.array(
        [Part.PREFILL, Part.EXPERT, Part.INPUTS, Part.EXPERT, Part.INPUTS, Part.EXPERT, Part.EXPERT, Part.END]
    )
    experts = np.array([-1, 1, -1, 0, -1, 0, 1, -1])
    marks = Marks(start_ns_M=np.arange(8), part_M=parts, layer_M=np.minimum(experts, 0), expert_M=experts)
    routing = Routing.from_marks(marks, np.array([[2, 1], [2, 0]]), config, num_rows=2)
    assert routing.launched_mean_L().tolist() == [1.5]
    assert routing.picked_a_row_L().tolist() == [1.0]
    assert routing.launched_histogram_L() == [[0, 1, 1]]
    assert routing.null_share_L().tolist() == [0.2] and routing.null_share() == 0.2
    assert routing.launch_share_LR().tolist() == [[1.0, 0.5]]
    assert routing.join(routing).num_steps == 4
