"""Coverage counts null picks separately and warns if the data has only one domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unimoe_calibration.coverage import Coverage, draw_heat_map
from unimoe_runtime.bundle.reader import Bundle


def test_coverage_counts_null_apart_and_warns_of_one_domain(bundle: Bundle, tmp_path: Path) -> None:
    experts = bundle.model.num_routed_experts
    coverage = Coverage(
        floor=5,
        num_routed=experts,
        picks={"speech": np.array([[9, 9, 9, 4, 0], [9, 9, 9, 9, 9]])},
        num_tokens={"speech": 12},
    )
    assert coverage.below() == {(0, 3): 4}, "the null expert needs no tokens"
    assert coverage.null_shares() == [0.0, 0.2]
    first, second = coverage.warnings(bundle)
    assert first.startswith("the data are speech only, and the bundle also makes music")
    assert second == "1 expert received fewer than 5 tokens, the least (layer 0, expert 3) 4"
    assert coverage.record()["null"] == {"speech": [[0], [9]]}
    assert coverage.rows()[0] == ("0", "speech", "9", "9", "9", "4", "0 %")
    for name in ("one.png", "two.png"):
        draw_heat_map(coverage, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
