"""Engines for tests: source bundles, and one graph compiled by TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.quantized import plan_of
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.writing import write_quantized
from unimoe_export.engines.compiling import compile_graph
from unimoe_export.engines.flavours import open_flavour
from unimoe_export.engines.jobs import list_jobs
from unimoe_export.engines.logs import EngineLog, fallbacks, read_log
from unimoe_export.engines.sizes import Limits
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import MANIFEST, Bundle, open_bundle
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.files.hashes import sha256_of


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The result for one graph. `problem`: why there is no engine."""

    problem: str | None
    log: EngineLog
    fallbacks: tuple[str, ...]


def one_layer(**changes: object) -> ModelConfig:
    """One layer of sizes that have kernels for 8-bit products and fused attention."""
    return tiny_config(
        **{
            **dict(
                hidden_size=64, head_dim=32, num_heads=4, routed_intermediate_size=96, shared_intermediate_size=64,
                num_layers=1, num_routed_experts=2, codebook_size=61, qkv_bias=True,
            ),
            **changes,
        }
    )  # fmt: skip


def random_bundle(folder: Path, config: ModelConfig, precision: str = "float32") -> Bundle:
    """A language model of random weights, without a codec."""
    write_random_checkpoint(folder / "checkpoint", config)
    export_bundle(folder / "checkpoint", folder / precision, precision=precision)
    return open_bundle(folder / precision)


def quantized(bundle: Bundle, out: Path, scheme: Scheme, *, per_row: bool = False) -> Bundle:
    """The bundle with every product in a scheme, inputs within ±6; `per_row`: per-row ranges after SwiGLU."""
    write_quantized(bundle, out, plan_of(bundle, scheme, Engine.TENSORRT, per_row), {})
    return open_bundle(out)


def compile_for(bundle: Bundle, graph: str, *capabilities: tuple[int, int], cache_capacity: int = 256) -> Tried:
    """Compile one graph as `unimoe build` does, without writing a file."""
    toolkit = open_flavour("tensorrt-rtx")
    (job,) = (
        job
        for job in list_jobs(bundle, capabilities, Limits(cache_capacities=(cache_capacity,)), "a test")
        if job.graph == graph
    )
    info = bundle.graph(graph)
    compiled = compile_graph(toolkit, bundle.path / info.file, info, job.recipe, bundle.path / ".timing_cache")
    log = read_log(compiled.log)
    notes = fallbacks(bundle.path / info.file, log, compare_products=True) if compiled.plan is not None else ()
    return Tried(problem=compiled.problem, log=log, fallbacks=notes)


def replace_file(bundle: Bundle, file: str, content: bytes) -> Bundle:
    """Replace a file of the bundle as if the bundle had been written with it."""
    (bundle.path / file).write_bytes(content)
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["files"][file] = {"bytes": len(content), "sha256": sha256_of(bundle.path / file)}
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    return open_bundle(bundle.path)
