"""`unimoe verify`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from unimoe.commands.judging import AT_LEAST, AT_MOST, DEFAULT_LIMITS, judge_bundles, print_report
from unimoe_runtime.backends import BACKENDS, Backend, open_backend
from unimoe_runtime.bundle import MANIFEST, open_bundle
from unimoe_runtime.comparison import TOLERANCE, Agreement, GraphComparison, compare_graphs, compare_models
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BackendError
from unimoe_runtime.generation import Prompt
from unimoe_runtime.language_model import BundleModel
from unimoe_runtime.requests import standard_requests


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="A checkpoint (needs torch) or another bundle. [default: the numpy oracle]",
)
@click.option("--backend", type=click.Choice(BACKENDS), default="onnxruntime", show_default=True)
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
    agree; a checkpoint, or another provider, must give the same graphs within rounding and nearly the same routing.
    """
    opened = open_bundle(bundle)
    candidate = open_backend(backend, opened, providers=providers or None)
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
    if opened.is_quantized:
        raise BackendError(f"{bundle}: it is quantized; judge it by the bundle that it was made of: --against BUNDLE")
    request = standard_requests(opened)[0]
    prompt, sampling = request.prompt, request.sampling
    with Console(stderr=True).status("comparing graphs and decoding"):
        graphs, agreement, reference = _compare(candidate, against, prompt, sampling, steps)
    exact = precision == "float32" or (against is None and not providers)
    if tolerance is None:
        tolerance = TOLERANCE["float32" if exact else precision]
    passed = _passes(graphs, agreement, tolerance, exact)
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
        from unimoe_export.parity import compare_with_checkpoint

        graphs, agreement = compare_with_checkpoint(candidate, against, prompt, sampling, steps=steps)
        return graphs, agreement, f"{against} (torch)"
    if against is None:
        reference, name = open_backend("numpy", bundle), "the numpy oracle"
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


def _passes(graphs: list[GraphComparison], agreement: Agreement, tolerance: float, exact: bool) -> bool:
    """`exact`: logits within the tolerance, routing and codes equal. Else a token may be routed otherwise, which moves
    the logits by more than rounding does."""
    if not all(graph.max_abs_error <= _allowed(graph.max_abs_value, tolerance) for graph in graphs):
        return False
    if not exact:
        return agreement.router_agreement >= DEFAULT_LIMITS["router-agreement"]
    return (
        agreement.max_logit_error <= _allowed(agreement.max_logit_value, tolerance)
        and agreement.equal_sets == 1.0
        and agreement.first_difference is None
    )


def _allowed(value: float, tolerance: float) -> float:
    return tolerance + 0.1 * tolerance * value


def _print(graphs: list[GraphComparison], agreement: Agreement, title: str, tolerance: float, exact: bool) -> None:
    table = Table("graphs", "largest error", "allowed", "", title=title, title_justify="left", box=None)
    groups: dict[str, list[GraphComparison]] = {}
    for graph in graphs:
        groups.setdefault(
            f"{graph.graph.partition('.expert.')[0]}.expert.*" if ".expert." in graph.graph else graph.graph, []
        ).append(graph)
    for name, members in groups.items():
        worst = max(members, key=lambda member: member.max_abs_error - _allowed(member.max_abs_value, tolerance))
        allowed = _allowed(worst.max_abs_value, tolerance)
        count = f" × {len(members)}" if len(members) > 1 else ""
        table.add_row(
            name + count,
            f"{worst.max_abs_error:.1e}",
            f"{allowed:.1e}",
            "ok" if worst.max_abs_error <= allowed else "FAILS",
        )
    allowed = _allowed(agreement.max_logit_value, tolerance)
    table.add_section()
    table.add_row(
        f"logits over {agreement.steps} forced steps", f"{agreement.max_logit_error:.1e}",
        f"{allowed:.1e}" if exact else "any", "ok" if not exact or agreement.max_logit_error <= allowed else "FAILS",
    )  # fmt: skip
    Console().print(table)
    first = "none" if agreement.first_difference is None else f"step {agreement.first_difference}"
    click.echo(
        f"router: {100 * agreement.router_agreement:.3f} % of decisions agree, "
        f"{100 * agreement.equal_sets:.3f} % of sets are equal\n"
        f"tokens: {100 * agreement.token_agreement:.3f} % agree when forced; first difference of greedy runs: {first}"
    )
