"""A decode step in 8 bits beside the same model as a single graph, whose experts are `com.microsoft.QMoE`.

    python -m benchmarks.quantized_single_graph [--hidden 384] [--picked 0 2 8] [--threads N] [--rounds N]
                                                [--markdown FILE]

The single graphs hold all layers; their experts have 8-bit or 4-bit weights in blocks of 32, their trunks are float32.
All take turns over the same model of random weights. With one thread, times are the process's CPU time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.onnxruntime.sessions import use_global_pool
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.model.generation import LanguageModel
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.machine import describe_machine

from .bandwidth import clock_for
from .markdown import machine_line
from .quantized import write_measured
from .rounds import CAPACITY, Peer
from .single_graph import SingleGraph
from .turns import markdown, measure


def build(folder: Path, threads: int | None) -> dict[str, Peer]:
    """The peers over FOLDER/bundle and FOLDER/int8, one copy each."""
    bundle = open_bundle(folder / "bundle")

    def split(of: Bundle) -> LanguageModel:
        backend = open_backend("onnxruntime", of, threads=threads)
        backend.load()
        return BundleModel(backend)

    peers: dict[str, LanguageModel] = {"int8, ours": split(open_bundle(folder / "int8"))}
    for bits in (8, 4):
        peers[f"QMoE, {bits} bits"] = SingleGraph(bundle, f"qmoe_{bits}", CAPACITY, bits=bits)
    return {name: Peer([model], bundle, clock_for(threads or 0)) for name, model in peers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[384])
    parser.add_argument("--picked", type=int, nargs="+", default=[0, 2, 8], choices=range(9))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    arguments = parser.parse_args()
    use_global_pool(arguments.threads)  # before the exporter's checks set it
    text = f"{machine_line(describe_machine())}; {arguments.threads} thread(s)\n\n"
    for hidden in arguments.hidden:
        with tempfile.TemporaryDirectory(prefix="unimoe-benchmark-") as temporary:
            folder = Path(temporary)
            write_measured(folder, hidden)
            text += (
                markdown(hidden, measure(build(folder, arguments.threads), arguments.picked, arguments.rounds)) + "\n"
            )
    Console(soft_wrap=True).print(text, highlight=False, markup=False)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
