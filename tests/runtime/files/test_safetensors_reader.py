"""Every way to read tensors, and rounding to 16 bits as in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from unimoe_runtime.errors import BundleError, CheckpointError
from unimoe_runtime.files.safetensors_reader import TensorFile, encode, widen
from unimoe_runtime.files.safetensors_writer import write_tensors

TORCH_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e-8, 3.4e38, 1.00390625, 1.01171875], np.float32)


@pytest.mark.parametrize("dtype", TORCH_TYPES)
def test_rounds_to_nearest_as_torch_does(dtype: str) -> None:
    bits = np.random.default_rng(0).integers(2**32, size=100_000, dtype=np.uint32)
    values = np.concatenate([SPECIAL, bits.view(np.float32)])
    if dtype == "F16":
        values = values[~(np.abs(values) > 65504) | np.isinf(values)]
    expected = torch.from_numpy(values).to(TORCH_TYPES[dtype]).float().numpy()
    with np.errstate(invalid="ignore"):  # signalling NaNs among the random bits
        np.testing.assert_array_equal(widen(encode(values, dtype), dtype), expected)


def test_float16_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(OverflowError, match="beyond float16's largest, 65504"):
        encode(np.array([1.0, 7e4], np.float32), "F16")
    assert encode(np.array([np.inf, 65504.0], np.float32), "F16").tolist() == [np.inf, 65504.0]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 9), begin=st.integers(0, 8), length=st.integers(0, 9), dtype=st.sampled_from(["F32", "BF16"])
)
def test_read_equals_the_map(
    tmp_path_factory: pytest.TempPathFactory, rows: int, begin: int, length: int, dtype: str
) -> None:
    path = tmp_path_factory.mktemp("tensors") / "x.safetensors"
    values = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    info = write_tensors(path, {"first": (3, rows), "x": (rows, 3)}, lambda name: [values.reshape(-1)], {"x": dtype})
    assert info.bytes == path.stat().st_size
    file, begin = TensorFile(path), min(begin, rows)
    np.testing.assert_array_equal(file.read("x"), file.raw("x"))
    np.testing.assert_array_equal(file.read("x", begin, begin + length), file.raw("x")[begin : begin + length])
    ids = np.array([[rows - 1, 0]])
    np.testing.assert_array_equal(file.rows("x")(ids), values[ids])
    assert file.rows("x")(ids).flags.writeable


def test_a_file_cut_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": (4, 4)}, lambda name: [np.ones((4, 4), np.float32)])
    file = TensorFile(path, CheckpointError)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="cut off while it was read: tensor 'x' is incomplete"):
        file.read("x")
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        file.read("x")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100))
@example(b"\x10" + bytes(7) + b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}' + bytes(4))
def test_any_bytes_are_tensors_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.safetensors"
    for whole in (content, len(content).to_bytes(8, "little") + content):
        path.write_bytes(whole)
        try:
            TensorFile(path, BundleError)
        except BundleError as error:
            assert "\n" not in str(error)
