"""The time to read a prompt, beside the time that its products take at the machine's rate.

    python -m benchmarks.prefill [NAME=BUNDLE …] [--hidden 384 1024] [--lengths 50 200 1000] [--threads N] [--rounds N]
                                 [--markdown FILE]

Bundles read random text ids as a guided pair. `--hidden` writes models of random weights in float32 and in 8 bits; the
text ids of their prompts pick 0 to 8 experts, each number equally often.

The floor counts two operations for each weight and token: trunks for all tokens, an expert for the tokens that picked
it, the products of attention over all slots, and the head for the last positions. The machine's rate is that of ONNX
Runtime's float32 product of a matrix of as many rows with a constant of 1024 × 4096, measured in the same rounds.
With one thread, times are the process's CPU time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import Bundle, expert_name, open_bundle, trunk_name
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.machine import BackgroundLoad, describe_machine, settle

from .bandwidth import clock_for, constant_product
from .markdown import machine_line, table
from .quantized import write_int8
from .workload import ROWS, model_config, write_checkpoint

_RATE_SHAPE = (1024, 4096)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bundle at one length: medians in milliseconds, operations, and the operations of a second."""

    name: str
    length: int
    median_ms: float
    operations: float
    rate: float

    @property
    def floor_ms(self) -> float:
        return 1e3 * self.operations / self.rate

    @property
    def cells(self) -> list[str]:
        return [
            self.name, str(self.length), f"{self.median_ms:.1f}", f"{self.floor_ms:.1f}",
            f"{self.median_ms / self.floor_ms:.2f}", f"{1e3 * self.length / self.median_ms:.0f}",
        ]  # fmt: skip


HEADINGS = ("bundle", "tokens", "prefill, ms", "floor, ms", "× floor", "tokens a second")


class Counter:
    """Counts, over one prefill, the tokens that each expert receives."""

    def __init__(self, bundle: Bundle) -> None:
        model = bundle.model
        self.tokens_LE = np.zeros((model.num_layers, model.num_dynamic_experts), np.int64)

    def __call__(self, layer: int, router_logits_NR: object, weights_NE: NDArray[np.float32]) -> None:
        self.tokens_LE[layer] += (weights_NE != 0).sum(axis=0)


def operations(bundle: Bundle, tokens_LE: NDArray[np.int64], length: int) -> float:
    """Multiplications and additions of one prefill of a guided pair in which experts receive so many tokens."""
    model, total = bundle.model, 0.0
    for layer in range(model.num_layers):
        total += 2 * ROWS * length * weights(bundle, trunk_name(layer))
        total += 4 * ROWS * length * length * model.num_heads * model.head_dim
        for expert in range(model.num_routed_experts):
            total += 2 * int(tokens_LE[layer, expert]) * weights(bundle, expert_name(layer, expert))
    return total + 2 * ROWS * weights(bundle, "head")


def weights(bundle: Bundle, graph: str) -> int:
    """Number of weights in a graph's products."""
    model, kv = bundle.model, bundle.model.num_kv_heads * bundle.model.head_dim
    if graph == "head":
        return model.hidden_size * model.num_codebooks * model.codec_vocab_size
    if ".expert." in graph:
        return 3 * model.hidden_size * model.routed_intermediate_size
    queries = model.num_heads * model.head_dim
    shared = 3 * model.num_shared_experts * model.shared_intermediate_size
    return model.hidden_size * (2 * queries + 2 * kv + model.num_router_rows + shared)


def measure(
    bundles: Mapping[str, Bundle], lengths: list[int], threads: int | None, rounds: int, folder: Path
) -> list[Row]:
    """Rows for all bundles and lengths, measured in turns."""
    counted: dict[tuple[str, int], float] = {}
    models = {}
    for name, bundle in bundles.items():
        backend = open_backend("onnxruntime", bundle, threads=threads)
        backend.load()
        models[name] = BundleModel(backend)
        for length in lengths:
            counter = Counter(bundle)
            BundleModel(backend, observer=counter).prefill(_prompt(bundle, length))
            counted[name, length] = operations(bundle, counter.tokens_LE, length)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in counted}
    products = {length: constant_product(folder / str(length), *_RATE_SHAPE, rows=ROWS * length) for length in lengths}
    rates: dict[int, list[float]] = {length: [] for length in lengths}
    random, clock = np.random.default_rng(0), clock_for(threads or 0)
    for _ in range(rounds):
        for length in lengths:
            settle()
            products[length]()
            started = clock()
            products[length]()
            rates[length].append(2 * ROWS * length * _RATE_SHAPE[0] * _RATE_SHAPE[1] / (clock() - started))
            for name in random.permutation(list(bundles)):
                prompt = _prompt(bundles[name], length)
                settle()
                started = clock()
                models[name].prefill(prompt)
                seconds[name, length].append(clock() - started)
    return [
        Row(
            name=name,
            length=length,
            median_ms=1e3 * float(np.median(times)),
            operations=counted[name, length],
            rate=float(np.median(rates[length])),
        )
        for (name, length), times in seconds.items()
    ]


def _prompt(bundle: Bundle, length: int) -> Prompt:
    ids = np.random.default_rng(length).integers(0, bundle.model.text_vocab_size, (ROWS, length))
    return Prompt.from_rows(list(ids), paired=True)


def markdown(rows: list[Row], threads: int, cores_of_others: float | None) -> str:
    """The table as Markdown."""
    busy = "" if cores_of_others is None else f", others kept {cores_of_others:.2f} cores busy"
    about = f"{machine_line(describe_machine())}; {threads} thread(s){busy}"
    return "\n".join([about, "", *table(HEADINGS, (row.cells for row in rows))]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", help="NAME=BUNDLE")
    parser.add_argument("--hidden", type=int, nargs="*", default=[], help="sizes of random models to write")
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unimoe-prefill-") as temporary:
        folder = Path(temporary)
        bundles = {name: open_bundle(path) for name, _, path in (each.partition("=") for each in arguments.bundles)}
        for hidden in arguments.hidden:
            place = folder / str(hidden)
            write_checkpoint(place / "checkpoint", model_config(hidden), text_picks=True)
            export_bundle(place / "checkpoint", place / "float32")
            write_int8(place / "float32", place / "int8")
            bundles |= {f"{hidden}, {kind}": open_bundle(place / kind) for kind in ("float32", "int8")}
        others = BackgroundLoad()
        rows = measure(bundles, arguments.lengths, arguments.threads, arguments.rounds, folder)
        text = markdown(rows, arguments.threads, others.cores())
    Console(soft_wrap=True).print(text, highlight=False, markup=False)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
