"""Our calibration beside others, all with 8 bits for weights and inputs: the answers' distance from float32.

python -m benchmarks.quantization_peers BUNDLE [--modelopt PYTHON] [--items N] [--json FILE] [--markdown FILE]

Peers: uniform largest values on random data, the same on our data, and Model Optimizer's ONNX quantization. The latter
runs in the environment of PYTHON (`pip install nvidia-modelopt[onnx]`) on each graph's inputs from our data. All peers
read the float bundle's own answers to the same requests, none of which is calibration data.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.output import add_output_options, write_outputs
from unimoe_calibration.data import ItemReader, Sample, read_data
from unimoe_calibration.decisions import choose_schemes, plan_quantization, uniform_plan
from unimoe_calibration.gathering import gather
from unimoe_calibration.observation import InputObserver
from unimoe_calibration.schemes import Engine, QuantizationPlan, Scheme
from unimoe_calibration.settings import Settings
from unimoe_calibration.statistics import Statistics
from unimoe_calibration.writing import write_quantized
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.backends.protocol import Array, Backend
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.model.generation import collect_frames, generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.bundles import language_model_bytes
from unimoe_tools.parity.sample_requests import limit_steps, standard_requests
from unimoe_tools.parity.teacher_forced import ForcedItem, diverge, read_forced, teacher_force

from .decode_step import machine
from .markdown import machine_line, table

_STEPS = 200
_MODELOPT = Path(__file__).with_name("modelopt_graphs.py")
_MODELOPT_NAMES = {
    "defaults": "Model Optimizer, as it comes (entropy)",
    "products": "Model Optimizer, products only, no router (entropy)",
    "products-max": "Model Optimizer, products only, no router (max)",
}


def questions(bundle: Bundle, backend: Backend) -> list[ForcedItem]:
    """The standard requests with the float bundle's own answers."""
    items = []
    for seed, request in enumerate(standard_requests(bundle)):
        sampling = limit_steps(request, _STEPS, bundle.model)
        [codes_TK] = collect_frames(generate(BundleModel(backend), request.prompt, bundle.model, sampling, seed=seed))
        items.append(teacher_force(request.prompt, codes_TK, request.sampling, bundle.model))
    return items


def random_samples(samples: Sequence[Sample], bundle: Bundle) -> list[Sample]:
    """Samples of the same shapes with random text ids and codes."""
    rng = np.random.default_rng(0)
    made = []
    for sample in samples:
        prompt = sample.prompt
        ids_BT = rng.integers(bundle.model.text_vocab_size, size=prompt.text_ids_BT.shape)
        ids_BT[:, -sample.num_rows :] = prompt.text_ids_BT[:, -sample.num_rows :]
        assert prompt.codec_ids_PK is not None
        codes_PK = rng.integers(bundle.model.codebook_size, size=prompt.codec_ids_PK.shape)
        made.append(replace(sample, prompt=replace(prompt, text_ids_BT=ids_BT, codec_ids_PK=codes_PK)))
    return made


def our_plans(bundle: Bundle, num_items: int | None) -> tuple[dict[str, QuantizationPlan], list[Sample]]:
    """Our plan, uniform plans from random data and from ours, and the samples used."""
    data = read_data(None, bundle)
    if num_items is not None:
        data = replace(data, items=data.items[:num_items])
    settings = Settings()
    gathered = gather(bundle, data, settings)
    with ItemReader(bundle) as reader:
        samples = [reader.read(item) for item in gathered.items]
    observer = InputObserver(bundle, Statistics.empty(bundle.model))
    observer.observe(random_samples(samples, bundle))
    engine, scheme = Engine.ONNXRUNTIME, Scheme.W8A8
    below = gathered.coverage.below()
    schemes, _ = choose_schemes(gathered.statistics, scheme, engine, below, settings.fallback)
    ours, _ = plan_quantization(bundle, gathered.statistics, schemes, engine)
    plans = {
        "ours": ours,
        "largest value, random data": uniform_plan(observer.statistics, scheme, engine),
        "largest value, our data": uniform_plan(gathered.statistics, scheme, engine),
    }
    return plans, samples


class _Recorder(WrappedBackend):
    """Keeps each graph's inputs; for an expert only the rows sent to it."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, by_graph=True)
        self.calls: dict[str, list[dict[str, Array]]] = {}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = dict(inputs)
        if "weight_N1" in given:
            sent = given["weight_N1"][:, 0] > 0
            given = {name: array[sent] for name, array in given.items()}
        self.calls.setdefault(graph, []).append({name: np.array(array) for name, array in given.items()})
        return super().run(graph, inputs)


def modelopt_backends(
    python: Path, bundle: Bundle, backend: Backend, samples: Sequence[Sample], folder: Path
) -> dict[str, Backend]:
    """The bundle's graphs, quantized by Model Optimizer; graphs that it rejects stay float, and are reported."""
    recorder = _Recorder(backend)
    for sample in samples:
        reader = BundleModel(recorder)
        reader.prefill(sample.prompt)
        rows, length = sample.prompt.text_ids_BT.shape
        reader.logits(np.flatnonzero(np.tile(np.arange(length) >= length - sample.num_rows, rows)))
    for graph in language_model_graphs(bundle.model):
        if graph not in recorder.calls:
            continue
        model = onnx.load(bundle.path / bundle.graph(graph).file)
        for index, node in enumerate(model.graph.node):
            node.name = f"{node.op_type}_{index}"  # to exclude the router by name
        onnx.save(model, folder / f"{graph}.onnx")
        calls = enumerate(recorder.calls[graph])
        arrays = {f"{number}/{name}": array for number, call in calls for name, array in call.items()}
        np.savez(folder / f"{graph}.npz", **arrays)  # type: ignore[arg-type]  # keys are the arrays' names
    command = [str(python), str(_MODELOPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    refused = [line for line in done.stderr.splitlines() if line.startswith(tuple(_MODELOPT_NAMES))]
    if done.returncode:
        raise SystemExit(f"{python} {_MODELOPT}: {(done.stderr.splitlines() or ['it failed'])[-1]}")
    for line in refused:
        print(f"Model Optimizer refused: {line}", file=sys.stderr)
    return {name: _Replaced(bundle, folder / variant) for variant, name in _MODELOPT_NAMES.items()}


class _Replaced(OnnxRuntimeBackend):
    """A bundle whose graphs are replaced by those of a folder, where the folder has them."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        super().__init__(bundle)
        self._folder = folder

    def session(self, graph: str) -> Any:
        path = self._folder / f"{graph}.onnx"
        if graph not in self._sessions and path.exists():
            self._sessions[graph] = open_session(path)
        return super().session(graph)

    def num_replaced(self) -> int:
        return len(list(self._folder.glob("*.onnx")))

    def num_bytes(self) -> int:
        """Bytes of its graphs; a weight that is quantized while it is read counts as int8."""
        return sum(_bytes_in_int8(onnx.load(path)) for path in self._folder.glob("*.onnx"))


def _bytes_in_int8(model: onnx.ModelProto) -> int:
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in quantized]
    return model.ByteSize() - 3 * sum(int(np.prod(tensor.dims)) for tensor in weights)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    bundle = open_bundle(arguments.bundle)
    backend = open_backend("onnxruntime", bundle, threads=arguments.threads)
    items = questions(bundle, backend)
    reference = [read_forced(backend, item) for item in items]
    plans, samples = our_plans(bundle, arguments.items)
    rows = []
    with tempfile.TemporaryDirectory(prefix="unimoe-peers-") as temporary:
        peers: dict[str, Backend] = {}
        for index, (name, plan) in enumerate(plans.items()):
            write_quantized(bundle, Path(temporary) / str(index), plan, {})
            peers[name] = open_backend("onnxruntime", open_bundle(Path(temporary) / str(index)))
        if arguments.modelopt is not None:
            folder = Path(temporary) / "modelopt"
            folder.mkdir()
            peers |= modelopt_backends(arguments.modelopt, bundle, backend, samples, folder)
        for name, peer in peers.items():
            found = diverge(reference, [read_forced(peer, item) for item in items])
            extra = {"graphs": peer.num_replaced(), "bytes": peer.num_bytes()} if isinstance(peer, _Replaced) else {
                "graphs": len(list(language_model_graphs(bundle.model))), "bytes": language_model_bytes(peer.bundle),
            }  # fmt: skip
            rows.append({"peer": name, **extra, "float_inputs": _float_inputs(plans.get(name)), **asdict(found)})
    return {"machine": machine(), "bundle": str(arguments.bundle), "items": len(samples), "peers": rows}


def _float_inputs(plan: QuantizationPlan | None) -> int:
    """The number of graphs that keep inputs in float32, because too few tokens reached them."""
    linears = {} if plan is None else plan.linears
    return len({linear.graph for linear, one in linears.items() if not one.scheme.quantizes_inputs})


def columns(row: Mapping[str, Any]) -> list[str]:
    return [
        row["peer"],
        str(row["graphs"]),
        f"{row['bytes'] / 1e6:.2f}",
        str(row["float_inputs"]),
        f"{row['kl_nats']:.4f}",
        f"{row['logit_error']:.4f}",
        f"{100 * row['token_agreement']:.2f} %",
        f"{100 * row['router_agreement']:.2f} %",
        f"{100 * row['equal_sets']:.2f} %",
    ]


TITLES = (
    "peer", "graphs", "MB", "inputs in float", "divergence, nats", "logit error", "tokens equal", "router decisions",
    "equal sets",
)  # fmt: skip


def markdown(result: Mapping[str, Any]) -> str:
    about = f"{machine_line(result['machine'])}; calibrated on {result['items']} items"
    return "\n".join([about, "", *table(TITLES, map(columns, result["peers"]))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--modelopt", type=Path, help="a Python that has nvidia-modelopt[onnx]")
    parser.add_argument("--items", type=int, help="calibration items to read; default: as many as coverage needs")
    parser.add_argument("--threads", type=int)
    add_output_options(parser)
    arguments = parser.parse_args()
    result = run(arguments)
    write_outputs(arguments, result, markdown(result))
    table = Table(*TITLES)
    for row in result["peers"]:
        table.add_row(*columns(row))
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)


if __name__ == "__main__":
    main()
