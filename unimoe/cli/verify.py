"""`unimoe verify`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from unimoe.cli.judging import AT_LEAST, AT_MOST, DEFAULT_LIMITS, judge_bundles, print_report
from unimoe.cli.verifying import agreement_lines, graph_table, reference_on_cpu, verify_set
from unimoe_runtime.backends.factory import BACKENDS, open_backend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.engine_verification import Agreement
from unimoe_runtime.bundle.reader import MANIFEST, open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BackendError
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.engines import router_agreement_needed
from unimoe_tools.parity.graphs import GraphComparison, allowed_error, compare_graphs, compare_models, tolerance_of
from unimoe_tools.parity.sample_requests import standard_requests


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="A checkpoint (needs torch) or another bundle. [default: the numpy oracle; of engines, the CPU]",
)
@click.option("--backend", type=click.Choice(BACKENDS), default="onnxruntime", show_default=True)
@click.option("--target", help="Whose engines --backend tensorrt runs. [default: those that fit this GPU]")
@click.option("--provider", "providers", multiple=True, help="ONNX Runtime execution provider; may be repeated.")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Decode steps to compare.")
@click.option(
    "--tolerance",
    type=float,
    help="Largest error allowed, absolute; plus a tenth of it relative. "
    "[default: 1e-4; more where products in 16 bits meet others]",
)
@click.option("--corpus", type=click.Path(path_type=Path), help="Judge by ear as well: folder of the rendered corpus.")
@click.option(
    "--texts", default=24, show_default=True, type=click.IntRange(min=2), help="Texts a voice and kind, heard."
)
@click.option(
    "--limit",
    "limits",
    type=(click.Choice([*AT_LEAST, *AT_MOST]), float),
    multiple=True,
    help="Where judging must pass; may be repeated. [default: "
    + ", ".join(f"{name} {value:g}" for name, value in DEFAULT_LIMITS.items())
    + "]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def verify(
    bundle: Path,
    against: Path | None,
    backend: str,
    target: str | None,
    providers: tuple[str, ...],
    steps: int,
    tolerance: float | None,
    corpus: Path | None,
    texts: int,
    limits: tuple[tuple[str, float], ...],
    as_json: bool,
) -> None:
    """Compare a BUNDLE's graphs and decoding with a reference; exit code 1 where they disagree.

    A quantized bundle cannot agree bit by bit: it is judged by the bundle that it was made of, within limits. So is
    one of 16 bits by one of another precision. The oracle and the CPU multiply 16-bit weights in float32 and must
    agree; a checkpoint, another provider or a GPU must give the same graphs within rounding and nearly the same
    routing.

    With --backend tensorrt every engine is compared with the CPU, and a record is left beside them that synth looks
    for.
    """
    opened = open_bundle(bundle)
    candidate = open_backend(backend, opened, providers=providers or None, target=target)
    other = open_bundle(against) if against is not None and (against / MANIFEST).exists() else None
    asked = corpus is not None or bool(limits)
    precision = opened.graphs["head"].precision
    alike = other is None or other.graphs["head"].precision == precision
    if other is not None and (asked or not alike or opened.is_quantized or other.is_quantized):
        report = judge_bundles(
            candidate, open_backend("onnxruntime", other), steps=steps, corpus=corpus, texts=texts, limits=dict(limits)
        )
        if as_json:
            click.echo(json.dumps({"bundle": str(bundle), "reference": str(against), **report.to_dict()}, indent=1))
        else:
            print_report(report, f"{bundle} ({backend}) against {against}")
            click.echo("within the limits" if report.passed else "NOT within the limits: see the table")
        sys.exit(0 if report.passed else 1)
    if asked:
        raise click.UsageError("--corpus and --limit judge a bundle by another one: name that with --against")
    engine_set = getattr(candidate, "engine_set", None)
    if engine_set is not None and against is None:
        sys.exit(0 if verify_set(candidate, engine_set, steps=steps, tolerance=tolerance, as_json=as_json) else 1)
    on_cpu = backend in ("onnxruntime", "numpy") and not providers
    if opened.is_quantized and on_cpu:
        raise BackendError(f"{bundle}: it is quantized; judge it by the bundle that it was made of: --against BUNDLE")
    request = standard_requests(opened)[0]
    prompt, sampling = request.prompt, request.sampling
    with Console(stderr=True).status("comparing graphs and decoding"):
        graphs, agreement, reference = _compare(candidate, against, prompt, sampling, steps)
    exact = on_cpu and (precision == "float32" or against is None)
    if tolerance is None:
        tolerance = tolerance_of("float32" if exact else precision)
    passed = _passes(graphs, agreement, tolerance, None if exact else router_agreement_needed(precision))
    if as_json:
        report = {
            "bundle": str(bundle),
            "reference": reference,
            "passed": passed,
            "agreement": asdict(agreement),
            "graphs": [asdict(graph) for graph in graphs],
        }
        click.echo(json.dumps(report, indent=1))
    else:
        _print(graphs, agreement, f"{bundle} ({backend}) against {reference}", tolerance, exact)
        click.echo("verified" if passed else "NOT verified: see the table")
    sys.exit(0 if passed else 1)


def _compare(
    candidate: Backend, against: Path | None, prompt: Prompt, sampling: SamplingConfig, steps: int
) -> tuple[list[GraphComparison], Agreement, str]:
    bundle = candidate.bundle
    if against is not None and not (against / MANIFEST).exists():
        from unimoe.parity.checkpoint import compare_with_checkpoint

        graphs, agreement = compare_with_checkpoint(candidate, against, prompt, sampling, steps=steps)
        return graphs, agreement, f"{against} (torch)"
    if against is None:
        reference, name = reference_on_cpu(bundle)
    else:
        reference, name = open_backend("onnxruntime", open_bundle(against)), str(against)
    graphs = compare_graphs(candidate, reference, prompt)
    agreement = compare_models(
        lambda observer: BundleModel(candidate, observer=observer),
        lambda observer: BundleModel(reference, observer=observer),
        prompt,
        bundle.model,
        sampling,
        steps=steps,
    )
    return graphs, agreement, name


def _passes(graphs: list[GraphComparison], agreement: Agreement, tolerance: float, router: float | None) -> bool:
    """`router`: equal decisions that are enough where a token may be routed otherwise, which moves the logits by more
    than rounding does. None: logits within the tolerance, routing and codes equal."""
    if not all(graph.max_abs_error <= allowed_error(graph.max_abs_value, tolerance) for graph in graphs):
        return False
    if router is not None:
        return agreement.router_agreement >= router
    return (
        agreement.max_logit_error <= allowed_error(agreement.max_logit_value, tolerance)
        and agreement.equal_sets == 1.0
        and agreement.first_difference is None
    )


def _print(graphs: list[GraphComparison], agreement: Agreement, title: str, tolerance: float, exact: bool) -> None:
    rows = [(graph.graph, graph.max_abs_error, allowed_error(graph.max_abs_value, tolerance)) for graph in graphs]
    table = graph_table(title, rows)
    allowed = allowed_error(agreement.max_logit_value, tolerance)
    table.add_section()
    table.add_row(
        f"logits over {agreement.steps} forced steps", f"{agreement.max_logit_error:.1e}",
        f"{allowed:.1e}" if exact else "any", "ok" if not exact or agreement.max_logit_error <= allowed else "FAILS",
    )  # fmt: skip
    Console().print(table)
    click.echo(agreement_lines(agreement))
