"""The records of engines.json: their ranges, and which shapes an engine takes."""

from __future__ import annotations

from typing import Any

import pytest

from unimoe_runtime.bundle.engine_records import EngineRecord, SetDescription
from unimoe_runtime.errors import ConfigError

RECORD: dict[str, Any] = {
    "graph": "head", "file": "head.engine", "log": "head.log", "bytes": 10, "sha256": "0" * 64,
    "source_sha256": "0" * 64, "recipe_sha256": "0" * 64, "precision": "float32", "seconds": 1.0,
    "profile": {"hidden_NC": [[1, 16], [2, 16], [64, 16]]},
}  # fmt: skip
SET: dict[str, Any] = {
    "version": 1, "target": "sm86", "flavour": "tensorrt-rtx", "engine_version": "1.7.0", "capabilities": ["8.6"],
    "max_rows": 2, "max_positions": 64, "cache_capacities": [256], "unbuilt": {}, "engines": {"head": RECORD},
}  # fmt: skip


def test_shapes_lie_within_the_profile() -> None:
    record = EngineRecord.from_dict(RECORD)
    assert record.takes({"hidden_NC": (1, 16)}) and record.takes({"hidden_NC": (64, 16), "other": (9,)})
    for shape in ((65, 16), (0, 16), (2, 15), (2,), (2, 16, 1)):
        assert not record.takes({"hidden_NC": shape})


def test_a_set_is_read_as_it_was_written() -> None:
    described = SetDescription.from_dict(SET)
    assert SetDescription.from_dict(described.to_dict()) == described


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("capabilities", []), ("capabilities", ["8,6"]), ("capabilities", ["86"]), ("cache_capacities", []),
        ("cache_capacities", [0]), ("max_rows", 0), ("max_rows", 1 << 40), ("flavour", "other"), ("version", 2),
        ("engines", {"head": {**RECORD, "bytes": -1}}), ("engines", {"head": {**RECORD, "seconds": float("nan")}}),
        ("engines", {"head": {**RECORD, "profile": {"x": [[1], [2]]}}}), ("unbuilt", []),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field) as caught:
        SetDescription.from_dict({**SET, field: value})
    assert "\n" not in str(caught.value)
