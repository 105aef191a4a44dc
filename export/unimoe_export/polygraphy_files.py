"""Real inputs and expected outputs of one graph, in Polygraphy's file formats.

`polygraphy run GRAPH.onnx --onnxrt --load-inputs inputs.json --load-outputs outputs.json` then compares an engine with
the oracle on the graph's real inputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.bundle.reader import DTYPES, Bundle
from unimoe_runtime.errors import BackendError, BundleError
from unimoe_runtime.install import install_command
from unimoe_tools.parity.graphs import record_calls
from unimoe_tools.parity.sample_requests import standard_requests

ORACLE = "oracle"
"""The name of the runner in the outputs' file."""


def graph_call(bundle: Bundle, graph: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """A graph's inputs while the model reads a standard prompt, and its outputs: from the numpy oracle, or from ONNX
    Runtime for a quantized bundle. Raises BundleError for a graph that the bundle lacks or that does not run.
    """
    floating = all(info.precision in DTYPES for info in bundle.graphs.values())
    backend = open_backend("numpy" if floating else "onnxruntime", bundle)
    try:
        calls = record_calls(backend, standard_requests(bundle)[0].prompt)
    finally:
        backend.close()
    if graph not in calls:
        known = ", ".join(kinds_of_graphs(calls))
        raise BundleError(f"{bundle.path}: no inputs for a graph {graph!r}; it has {known}")
    return calls[graph]


def kinds_of_graphs(names: Iterable[str]) -> list[str]:
    """Graphs that differ only in their numbers in one word: `layers.0.expert.0 to layers.3.expert.7`."""
    kinds: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for name in names:
        words = name.split(".")
        numbers = tuple(int(word) for word in words if word.isdigit())
        kinds.setdefault(tuple("{}" if word.isdigit() else word for word in words), []).append(numbers)
    shown = []
    for pattern, members in sorted(kinds.items()):
        first, last = (".".join(pattern).format(*end(members)) for end in (min, max))
        shown.append(first if first == last else f"{first} to {last}")
    return shown


def write_inputs(path: Path, inputs: dict[str, Array]) -> None:
    """Write the file for `polygraphy run --load-inputs`. Raises BackendError where Polygraphy is not installed."""
    try:
        from polygraphy.json import save_json
    except ImportError:
        raise _missing() from None
    with _silence():
        save_json([inputs], str(path))


def write_outputs(path: Path, outputs: dict[str, Array]) -> None:
    """Write the file for `polygraphy run --load-outputs`. Raises BackendError where Polygraphy is not installed."""
    try:
        from polygraphy.comparator import IterationResult, RunResults
    except ImportError:
        raise _missing() from None
    results = RunResults()
    results.append((ORACLE, [IterationResult(outputs=outputs, runner_name=ORACLE)]))
    with _silence():
        results.save(str(path))


def _silence() -> AbstractContextManager[Any]:
    """A context without Polygraphy's own lines on standard output."""
    from polygraphy.logger import G_LOGGER

    silent: AbstractContextManager[Any] = G_LOGGER.verbosity(G_LOGGER.CRITICAL)
    return silent


def _missing() -> BackendError:
    return BackendError(f"Polygraphy is not installed: `{install_command('export')}`")
