"""The streaming safetensors writer: blocks that the safetensors package reads back, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.files.safetensors_writer import write_tensors

SHAPES = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), min_size=0, max_size=5)


@settings(max_examples=50, deadline=None)
@given(shapes=SHAPES, block=st.integers(1, 3))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], block: int) -> None:
    path = tmp_path_factory.mktemp("tensors") / "x.safetensors"
    random = np.random.default_rng(0)
    values = {f"tensor {i}": random.standard_normal(shape, dtype=np.float32) for i, shape in enumerate(shapes)}
    write_tensors(
        path,
        {name: value.shape for name, value in values.items()},
        lambda name: (values[name][begin : begin + block] for begin in range(0, len(values[name]), block)),
    )
    found = load_file(path)
    assert list(TensorFile(path).entries) == list(values)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
        np.testing.assert_array_equal(TensorFile(path).float32(name), value)
    for entry in list(TensorFile(path).entries.values())[:1]:
        assert entry.offset % 64 == 0


def test_transposed_views_are_written_in_order(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_tensors(tmp_path / "x.safetensors", {"x": (3, 2)}, lambda name: [value.T])
    np.testing.assert_array_equal(load_file(tmp_path / "x.safetensors")["x"], value.T)


@pytest.mark.parametrize("rows", [1, 3])
def test_wrong_number_of_values(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match=r"x came with \d+ values, its shape \[2, 4\]"):
        write_tensors(tmp_path / "x.safetensors", {"x": (2, 4)}, lambda name: [np.zeros((rows, 4), np.float32)])
