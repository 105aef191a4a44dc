"""Training speed against its floor: the model's own operations at the machine's measured rate of products.

    python -m benchmarks.training_speed

A step has the included checkpoint's shape (hidden 192, 4 layers, 8 experts of which each token uses two) and reads
clips of random codes with the lengths of speech and music. The count includes the mathematically necessary operations:
forward and twice that backward, tokens without padding, picked experts, the causal half of attention. Utilisation is
their rate divided by the rate of a large float32 product, which alternates with the steps at the same threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.markdown import table as markdown_table
from benchmarks.output import add_output_options, write_outputs
from unimoe.config import preset
from unimoe.training.batches import Batch
from unimoe.training.examples import Example
from unimoe.training.merging import dense_config
from unimoe.training.settings import TrainingConfig
from unimoe.training.trainer import Trainer
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.model.delay_pattern import delay_codes

_LARGE = 1024
_BACKWARD = 2  # a product's gradients are two products of its size


def clips(config: ModelConfig, count: int, seed: int) -> list[Example]:
    """Random codes: 16 to 24 phonemes, 1.2 to 3.4 seconds at 50 frames a second."""
    rng = np.random.default_rng(seed)
    examples = []
    for index in range(count):
        num_frames, num_ids = int(rng.integers(60, 170)), int(rng.integers(18, 26))
        codes_TK = rng.integers(0, config.codebook_size, size=(num_frames, config.num_codebooks))
        examples.append(
            Example(
                ids_P=rng.integers(0, config.text_vocab_size, size=num_ids),
                positions_P=np.linspace(0, num_frames, num_ids, dtype=np.float32),
                rows_RK=delay_codes(codes_TK, config),
                spoken_T=np.minimum(np.arange(num_frames) * num_ids // num_frames, num_ids - 1),
                domain="music" if index % 4 == 0 else "speech",
            )
        )
    return examples


def step_operations(config: ModelConfig, batch: Batch, picked: float) -> float:
    """Floating-point operations of a training step, 2 per multiply-add. `picked`: routed experts by token and layer."""
    hidden, width = config.hidden_size, config.head_dim
    lengths_B = batch.mask_BT.sum(dim=1).double()
    tokens, pairs = float(lengths_B.sum()), float((lengths_B * (lengths_B + 1) / 2).sum())
    attention = hidden * width * (2 * config.num_heads + 2 * config.num_kv_heads)
    shared = 3 * hidden * config.shared_intermediate_size * config.num_shared_experts
    routed = 3 * hidden * config.routed_intermediate_size * picked
    a_layer = tokens * (attention + shared + routed + hidden * config.num_router_rows)
    a_layer += pairs * 2 * width * config.num_heads
    head = float(batch.audio_BT.sum()) * hidden * config.num_codebooks * config.codec_vocab_size
    return 2 * (1 + _BACKWARD) * (config.num_layers * a_layer + head)


def product_rate(rows: int, inner: int, columns: int, seconds: float) -> float:
    """Operations per second of one float32 product, the fastest of the repetitions that fit into `seconds`."""
    left, right, out = torch.randn(rows, inner), torch.randn(columns, inner), torch.empty(rows, columns)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        torch.mm(left, right.t(), out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * rows * inner * columns / best


def measure(name: str, config: ModelConfig, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Alternate steps and products, at one number of threads."""
    torch.set_num_threads(threads)
    training = TrainingConfig(num_steps=10_000, batch_size=12, num_threads=threads)
    trainer = Trainer(config, training, clips(config, 480, 0))
    for _ in range(3):
        picked = trainer.train_step(measure=True).get("experts_picked", 0.0)
    frames_a_s, rates, peaks, fitting = [], [], [], []
    for _ in range(rounds):
        peaks.append(product_rate(_LARGE, _LARGE, _LARGE, 0.3))
        frames = operations = 0.0
        seconds = 0.0
        for _ in range(steps):
            batch = trainer.batch(trainer.step)
            frames += float(batch.audio_BT.sum())
            operations += step_operations(config, batch, picked)
            start = time.perf_counter()
            trainer.train_step()
            seconds += time.perf_counter() - start
        frames_a_s.append(frames / seconds)
        rates.append(operations / seconds)
        fitting.append(product_rate(1500, config.hidden_size, 2 * config.shared_intermediate_size, 0.2))
    peak = max(peaks)
    return {
        "model": name, "threads": threads, "frames_a_s": round(statistics.median(frames_a_s)),
        "operations_a_frame": round(statistics.median(r / f for r, f in zip(rates, frames_a_s, strict=True))),
        "operations_a_s": statistics.median(rates), "peak": peak, "small_product": max(fitting),
        "utilisation": statistics.median(rates) / peak,
    }  # fmt: skip


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "model": lambda row: row["model"],
        "threads": lambda row: str(row["threads"]),
        "frames/s": lambda row: f"{row['frames_a_s']:,}",
        "MFLOP a frame": lambda row: f"{row['operations_a_frame'] / 1e6:.1f}",
        "GFLOP/s": lambda row: f"{row['operations_a_s'] / 1e9:.1f}",
        "large product, GFLOP/s": lambda row: f"{row['peak'] / 1e9:.1f}",
        "product of a layer's size": lambda row: f"{row['small_product'] / 1e9:.1f}",
        "utilisation": lambda row: f"{100 * row['utilisation']:.0f} %",
    }
    rows = ([show(result) for show in columns.values()] for result in results)
    return "\n".join(markdown_table(list(columns), rows, numbers=True)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="a round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_output_options(parser)
    asked = parser.parse_args()
    moe = preset("demo", selection="top_k", top_k=2)
    models = {"dense, width 768": dense_config(moe, 2), "8 experts, 2 picked": moe}
    results = [
        measure(name, config, threads, asked.rounds, asked.steps)
        for threads in asked.threads
        for name, config in models.items()
    ]
    print(table(results))
    write_outputs(asked, results, table(results))


if __name__ == "__main__":
    main()
