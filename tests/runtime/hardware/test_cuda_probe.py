"""The driver's library, played by a stand-in: a GPU's facts, and errors as one line."""

from __future__ import annotations

from typing import Any

from unimoe_runtime.hardware.cuda_probe import read_gpus


class Library:
    """A driver for CUDA 13.0 with one integrated GPU; the function `fails` returns an error."""

    def __init__(self, fails: str = "") -> None:
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self._fails:
                return 999
            target = getattr(arguments[0], "_obj", None) if arguments else None
            match name:
                case "cuDriverGetVersion":
                    target.value = 13_000  # type: ignore[union-attr]
                case "cuDeviceGetCount":
                    target.value = 1  # type: ignore[union-attr]
                case "cuDeviceGetName":
                    arguments[0].value = b"Orin"
                case "cuDeviceTotalMem_v2":
                    target.value = 1 << 34  # type: ignore[union-attr]
                case "cuDeviceGetAttribute":
                    target.value = {75: 8, 76: 7, 18: 1}[arguments[1]]  # type: ignore[union-attr]
                case "cuGetErrorString":
                    getattr(arguments[1], "_obj").value = b"unknown error"  # noqa: B009
            return 0

        return call


def test_a_gpu_is_described() -> None:
    found = read_gpus(Library())
    assert found["cuda"] == "13.0" and found["problem"] is None
    assert found["gpus"] == [{"name": "Orin", "compute_capability": "8.7", "memory_bytes": 1 << 34, "integrated": True}]


def test_an_error_of_the_driver_is_one_line() -> None:
    for function in ("cuInit", "cuDeviceGetCount", "cuDeviceGetName", "cuDeviceGetAttribute"):
        found = read_gpus(Library(function))
        assert found["gpus"] == [] and found["problem"].startswith(f"{function}: unknown")
        assert found["cuda"] == "13.0" and "\n" not in found["problem"]
