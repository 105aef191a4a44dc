"""Quantize a folder of graphs with NVIDIA Model Optimizer, in a separate environment.

python benchmarks/modelopt_graphs.py FOLDER

FOLDER/GRAPH.onnx and FOLDER/GRAPH.npz (inputs, "NUMBER/NAME") become FOLDER/VARIANT/GRAPH.onnx. The script imports none
of this project's modules: Model Optimizer pins unsuitable versions of packages, so its environment has nothing else.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from modelopt.onnx.quantization import quantize
from onnxruntime.quantization import CalibrationDataReader

# modelopt's defaults; then, as `unimoe calibrate` chooses, only products, without routers, by two calibration methods.
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "products": {"op_types_to_quantize": ["MatMul", "Gemm"], "calibration_method": "entropy"},
    "products-max": {"op_types_to_quantize": ["MatMul", "Gemm"], "calibration_method": "max"},
}


class Recorded(CalibrationDataReader):  # type: ignore[misc]  # modelopt has no types
    """Recorded inputs, call by call."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            calls: dict[int, dict[str, np.ndarray]] = {}
            for key in arrays.files:
                number, name = key.split("/")
                calls.setdefault(int(number), {})[name] = arrays[key]
        self._calls = [calls[number] for number in sorted(calls)]
        self._next: Iterator[dict[str, np.ndarray]] = iter(self._calls)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._next, None)

    def rewind(self) -> None:
        self._next = iter(self._calls)

    def get_first(self) -> dict[str, np.ndarray]:
        return self._calls[0]


def routers(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if "router.weight" in node.input]


def main() -> None:
    folder = Path(sys.argv[1])
    for variant, options in VARIANTS.items():
        (folder / variant).mkdir(exist_ok=True)
        for path in sorted(folder.glob("*.onnx")):
            kept = routers(onnx.load(path, load_external_data=False)) if options else []
            with tempfile.TemporaryDirectory() as temporary:
                made = Path(temporary) / path.name
                try:
                    # It writes names into its input graph, so it receives a copy.
                    quantize(
                        str(shutil.copy(path, Path(temporary) / "in.onnx")),
                        quantize_mode="int8",
                        calibration_data_reader=Recorded(path.with_suffix(".npz")),
                        calibration_eps=["cpu"],
                        output_path=str(made),
                        high_precision_dtype="fp32",
                        enable_gemv_detection_for_trt=False,
                        nodes_to_exclude=kept or None,
                        log_level="ERROR",
                        **options,
                    )
                except Exception:
                    print(f"{variant} {path.stem}: {traceback.format_exc().splitlines()[-1]}", file=sys.stderr)
                    continue
                shutil.move(made, folder / variant / path.name)


if __name__ == "__main__":
    main()
