"""4-bit weights with and without GPTQ (Frantar et al., https://arxiv.org/abs/2210.17323): output errors, and a bundle.

    python -m benchmarks.gptq BUNDLE [--out OUT] [--damping 0.1] [--markdown FILE]

The bundle's calibration items, but for every fourth, give the inputs that GPTQ compensates for. The held-out items give
the errors: the norm of a product's deviation, relative to the product. Scales are those of `calibrate --precision int4`
in blocks of inputs. OUT is a 4-bit bundle with the compensated codes, for a comparison by ear.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unimoe_calibration.data import Item, ItemReader, read_data
from unimoe_calibration.observation import InputObserver
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import Floats, Linear, LinearStatistics, Statistics
from unimoe_calibration.weights import block_size, dequantize_weight, quantize_weight
from unimoe_calibration.writing import read_weights, write_quantized
from unimoe_runtime.bundle.manifest import MANIFEST
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.files.hashes import sha256_of
from unimoe_runtime.files.safetensors_reader import TensorFile

_HELD_OUT_EVERY = 4
_LARGEST, _MIDDLE = 7, 8  # of 4-bit codes


class ObservedInput(LinearStatistics):
    """Also sums xᵀx over the rows: `gram_KK`."""

    def __init__(self, linear: Linear, num_channels: int) -> None:
        super().__init__(linear, num_channels)
        self.gram_KK = np.zeros((num_channels, num_channels))

    def add(self, domain: str, rows_NC: Floats) -> None:
        super().add(domain, rows_NC)
        rows = rows_NC.astype(np.float64)
        self.gram_KK += rows.T @ rows


def observe(bundle: Bundle, items: Sequence[Item]) -> dict[Linear, ObservedInput]:
    """The inputs of every product while the bundle reads the items."""
    empty = Statistics.empty(bundle.model)
    seen = {linear: ObservedInput(linear, one.num_channels) for linear, one in empty.linears.items()}
    with ItemReader(bundle, seed=0) as reader:
        samples = [reader.read(item) for item in items]
    InputObserver(bundle, Statistics(linears=seen)).observe(samples)
    return seen


def compensated(
    weight_KN: Floats, gram_KK: NDArray[np.float64], damping: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """GPTQ's codes [K, N] in -7 … 7 and the scale of each, input by input: a rounding error is spread over the inputs
    that follow, by the inverse of xᵀx. A scale is that of the block's weights as they are when its turn comes."""
    num_inputs = len(weight_KN)
    block = block_size(num_inputs, 4)
    damped_KK = gram_KK.copy()
    diagonal = np.diag_indices(num_inputs)
    damped_KK[diagonal] += damping * max(float(damped_KK[diagonal].mean()), float(np.finfo(np.float32).tiny))
    factor_KK = np.linalg.cholesky(np.linalg.inv(damped_KK)).T
    left_KN = weight_KN.astype(np.float64)
    codes_KN, scales_KN = np.zeros_like(left_KN), np.zeros_like(left_KN)
    for begin in range(0, num_inputs, block):
        rows = slice(begin, min(begin + block, num_inputs))
        given = quantize_weight(left_KN[rows].astype(np.float32), Scheme.W4, Engine.ONNXRUNTIME, block=block)
        scales_KN[rows] = given.scales.values[:, 0]
        errors = []
        for row in range(rows.start, rows.stop):
            codes_KN[row] = np.clip(np.rint(left_KN[row] / scales_KN[row]), -_LARGEST, _LARGEST)
            errors.append((left_KN[row] - codes_KN[row] * scales_KN[row]) / factor_KK[row, row])
            left_KN[row + 1 : rows.stop] -= np.outer(factor_KK[row, row + 1 : rows.stop], errors[-1])
        left_KN[rows.stop :] -= factor_KK[rows, rows.stop :].T @ np.stack(errors)
    return codes_KN, scales_KN


def error_of(weight_KN: Floats, restored_KN: NDArray[np.floating], rows_MK: Floats) -> float:
    """The norm of the product's deviation, relative to the product."""
    return float(np.linalg.norm(rows_MK @ (restored_KN - weight_KN)) / np.linalg.norm(rows_MK @ weight_KN))


def put_codes(bundle: Bundle, linear: Linear, codes_KN: NDArray[np.float64], scales_KN: NDArray[np.float64]) -> None:
    """Replace a product's codes and scales in the files of a 4-bit bundle, whose padding stays."""
    path = bundle.path / bundle.graphs[linear.graph].weights
    file = TensorFile(path)
    codes_NGZ, scales_NG = file.read(f"{linear.weight}.codes"), file.read(f"{linear.weight}.scales")
    num_inputs, num_outputs = codes_KN.shape
    block = 2 * codes_NGZ.shape[2]
    middle_KN = np.full((scales_NG.shape[1] * block, num_outputs), _MIDDLE, np.uint8)
    middle_KN[:num_inputs] = (codes_KN + _MIDDLE).astype(np.uint8)
    each_NGZ = middle_KN.T.reshape(num_outputs, -1, block)
    written = {".codes": each_NGZ[..., ::2] | (each_NGZ[..., 1::2] << 4), ".scales": scales_KN[::block].T}
    for suffix, values in written.items():
        entry = file.entries[linear.weight + suffix]
        kind = np.uint8 if suffix == ".codes" else np.float32
        stored = np.memmap(path, kind, "r+", offset=entry.offset, shape=tuple(entry.shape))
        stored[...] = values
        stored.flush()


def renew_hashes(bundle: Bundle) -> None:
    """Write the files' present hashes into the manifest."""
    path = bundle.path / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for file, entry in manifest["files"].items():
        entry["sha256"] = sha256_of(bundle.path / file)
    path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def run(folder: Path, out: Path | None, damping: float) -> str:
    """Errors by kind of product as Markdown; writes OUT."""
    bundle = open_bundle(folder)
    items = read_data(None, bundle).drawn(0)
    held_out = observe(bundle, items[::_HELD_OUT_EVERY])
    used = [item for index, item in enumerate(items) if index % _HELD_OUT_EVERY]
    seen = observe(bundle, used)
    result = None
    if out is not None:
        plans = dict.fromkeys(seen, LinearPlan(scheme=Scheme.W4))
        write_quantized(bundle, out, QuantizationPlan(engine=Engine.ONNXRUNTIME, linears=plans), {})
        result = open_bundle(out)
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for linear, observed in seen.items():
        weight_KN = read_weights(bundle, linear.graph)[linear.weight]
        codes_KN, scales_KN = compensated(weight_KN, observed.gram_KK, damping)
        if result is not None:
            put_codes(result, linear, codes_KN, scales_KN)
        rows_MK = held_out[linear].rows_MC
        if len(rows_MK):
            rounded_KN = dequantize_weight(weight_KN, Scheme.W4, Engine.ONNXRUNTIME)
            pair = error_of(weight_KN, rounded_KN, rows_MK), error_of(weight_KN, codes_KN * scales_KN, rows_MK)
            kind = "expert" if ".expert." in linear.graph else linear.graph.rpartition(".")[2]
            errors[f"{kind}, {linear.weight}"].append(pair)
    if result is not None:
        renew_hashes(result)
    tokens = sum(next(iter(seen.values())).domain(name).num_rows for name in next(iter(seen.values())).domains)
    lines = [f"{len(used)} items, {tokens} tokens; {len(items) - len(used)} items held out; damping {damping:g}", ""]
    lines += ["| product | rounding | GPTQ |", "| --- | --- | --- |"]
    every = [pair for pairs in errors.values() for pair in pairs]
    for kind, pairs in {**errors, "all": every}.items():
        rounding, compensation = np.mean(pairs, axis=0)
        lines.append(f"| {kind} | {rounding:.1%} | {compensation:.1%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, help="write the 4-bit bundle there")
    parser.add_argument("--damping", type=float, default=0.1, help="share of the mean square input added to each")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    text = run(arguments.bundle, arguments.out, arguments.damping)
    print(text, end="")
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
