"""`unimoe verify`: compares a bundle with the oracle, a checkpoint or another bundle, or its engines with the CPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.figures import coloured, print_figures
from unimoe.cli.options import Command, Number, Whole, engine_options, json_option, write_json
from unimoe.cli.progress import Progress, progress_bar
from unimoe.cli.tables import as_word, columns, print_next, print_table
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.bundle.engine_verification import Agreement, write_verification
from unimoe_runtime.bundle.reader import MANIFEST, Bundle, open_bundle
from unimoe_runtime.errors import BackendError, OutputError
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.bundles import compare_bundles
from unimoe_tools.parity.engines import router_agreement_needed, verify_engines
from unimoe_tools.parity.graphs import GraphComparison, allowed_error, compare_graphs, compare_models, tolerance_of
from unimoe_tools.parity.limits import AT_LEAST, AT_MOST, DEFAULT_LIMITS, HEARD, BundleReport, limit_bundles
from unimoe_tools.parity.sample_requests import standard_requests
from unimoe_tools.units import percent

UNDECIDED_EXIT_CODE = 3
_SHOWN_LIMITS = ", ".join(f"{name} {value:g}" for name, value in DEFAULT_LIMITS.items())


@click.command(cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--against",
    type=BUNDLE,
    help="A checkpoint (needs torch) or another bundle. [default: the numpy oracle; for engines, the CPU]",
)
@engine_options
@click.option("--steps", type=Whole(1), default=200, show_default=True, help="Decode steps to compare.")
@click.option(
    "--tolerance",
    type=Number(min=0),
    help="Largest absolute error; a tenth of it is allowed as relative error too. [default: by the precisions]",
)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    help="Compare the audio too, on a corpus of `unimoe data` or a folder of your own recordings with their texts.",
)
@click.option(
    "--texts", default=24, show_default=True, type=Whole(2), help="Number of texts of each voice to synthesize."
)
@click.option(
    "--limit",
    "limits",
    type=(click.Choice([*AT_LEAST, *AT_MOST]), Number()),
    multiple=True,
    metavar="FIGURE VALUE",
    help=f"A limit for the comparison with another bundle; may be repeated. [default: {_SHOWN_LIMITS}]",
)
@json_option
def verify(
    bundle: Path,
    against: Path | None,
    backend: str,
    target: str | None,
    providers: tuple[str, ...] | None,
    steps: int,
    tolerance: float | None,
    corpus: Path | None,
    texts: int,
    limits: tuple[tuple[str, float], ...],
    json_to: str | None,
) -> None:
    """Compare a BUNDLE's graphs and decoding with a reference.

    Exit code 1 means that they disagree, 3 that a corpus has too few texts to tell.

    Without --against the reference is the numpy oracle, and errors must stay within rounding. Against another bundle,
    such as the original of a quantized bundle, figures must stay within limits. With --backend tensorrt each engine is
    compared with the CPU, and the record lies beside the engines, where synth looks for it.
    """
    opened = open_bundle(bundle)
    candidate = open_backend(backend, opened, providers=providers, target=target)
    other = open_bundle(against) if against is not None and (against / MANIFEST).exists() else None
    if against and other and (corpus is not None or limits or not _same_precision(opened, other)):
        reference = open_backend("onnxruntime", other)
        report = _compare_bundles(candidate, reference, steps, dict(limits), _Listening(corpus, texts))
        title = f"{bundle} ({backend}) against {against}"
        if not write_json({"bundle": str(bundle), "reference": str(against), **report.to_dict()}, json_to):
            speed = f"`unimoe profile {as_word(bundle)} --against {as_word(against)}`"
            pack = f"`unimoe pack {as_word(bundle)} -o FILE`"
            _print_figures(report, title, next_steps=[speed, pack])
        sys.exit(0 if report.passed else UNDECIDED_EXIT_CODE if report.is_undecided else 1)
    if corpus is not None or limits:
        raise click.UsageError("--corpus and --limit compare with another bundle: name it with --against")
    engine_set = getattr(candidate, "engine_set", None)
    if engine_set is not None and against is None:
        sys.exit(0 if _verify_engines(candidate, engine_set, steps, tolerance, json_to) else 1)
    on_cpu = backend in ("onnxruntime", "numpy") and not providers
    if opened.is_quantized and on_cpu:
        raise BackendError(f"{bundle}: it is quantized; name the bundle that it was made of: --against BUNDLE")
    with progress_bar("comparing graphs and decoding") as progress:
        result = _compare_with_reference(candidate, against, steps, progress)
    precision = opened.graphs["head"].precision
    exact = on_cpu and (precision == "float32" or against is None)
    tolerance = tolerance_of("float32" if exact else precision) if tolerance is None else tolerance
    passed = _passes(result, tolerance, None if exact else router_agreement_needed(precision))
    record = {
        "bundle": str(bundle), "reference": result.reference, "passed": passed,
        "agreement": asdict(result.agreement), "graphs": [asdict(graph) for graph in result.graphs],
    }  # fmt: skip
    if not write_json(record, json_to):
        _print_graphs(result, f"{bundle} ({backend}) against {result.reference}", tolerance, exact)
        click.echo("verified" if passed else "NOT verified: see the table")
    sys.exit(0 if passed else 1)


def _same_precision(one: Bundle, other: Bundle) -> bool:
    """Whether two bundles should compute the same numbers: neither is quantized, and both have the same precision."""
    if one.is_quantized or other.is_quantized:
        return False
    return one.graphs["head"].precision == other.graphs["head"].precision


@dataclass(frozen=True)
class _Listening:
    corpus: Path | None
    texts: int


def _compare_bundles(
    candidate: Backend, reference: Backend, steps: int, limits: Mapping[str, float], listening: _Listening
) -> BundleReport:
    for name in limits:
        if name in HEARD and listening.corpus is None:
            raise click.UsageError(f"the limit of {name} needs a corpus (--corpus)")
        if name == "spectral-db" and reference.bundle.codec is None:
            raise click.UsageError(f"the limit of {name} needs a bundle with a codec")
    if listening.corpus is not None:
        from unimoe.evaluation.own_recordings import require_listening

        require_listening(listening.corpus)
    with progress_bar("comparing answers") as progress:
        requests = standard_requests(reference.bundle)
        comparison = compare_bundles(candidate, reference, requests, steps=steps, progress=progress)
        heard = {}
        if listening.corpus is not None:
            from unimoe.evaluation.own_recordings import hear_bundle

            for name, backend in (("candidate", candidate), ("reference", reference)):
                tell = partial(progress, f"listening to the {name}")
                heard[name] = hear_bundle(backend, listening.corpus, num_texts=listening.texts, progress=tell)
    return limit_bundles(comparison, limits, heard=heard)


def _print_figures(report: BundleReport, title: str, *, next_steps: Sequence[str]) -> None:
    print_figures(report.figures, title)
    if report.is_undecided:
        click.echo(
            "NOT decided: the corpus has too few texts for the figures marked undecided, whose intervals contain the "
            "limit. Take more texts (--texts, or more recordings)"
        )
    else:
        click.echo("within the limits" if report.passed else "NOT within the limits: see the table")
    if report.passed:
        print_next(*next_steps)


@dataclass(frozen=True, kw_only=True)
class _Result:
    graphs: Sequence[GraphComparison]
    agreement: Agreement
    reference: str


def _compare_with_reference(candidate: Backend, against: Path | None, steps: int, progress: Progress) -> _Result:
    bundle, request = candidate.bundle, standard_requests(candidate.bundle)[0]
    if against is not None and not (against / MANIFEST).exists():
        from unimoe.parity.checkpoint import compare_with_checkpoint

        graphs, agreement = compare_with_checkpoint(candidate, against, request.prompt, request.sampling, steps=steps)
        return _Result(graphs=graphs, agreement=agreement, reference=f"{against} (torch)")
    if against is not None:
        reference, name = open_backend("onnxruntime", open_bundle(against)), str(against)
    elif bundle.is_quantized:
        reference, name = open_backend("onnxruntime", bundle), "ONNX Runtime on the CPU"
    else:
        reference, name = open_backend("numpy", bundle), "the numpy oracle"
    progress("comparing graphs", 0, 2)
    graphs = compare_graphs(candidate, reference, request.prompt)
    progress("comparing decoding", 1, 2)
    agreement = compare_models(
        lambda observer: BundleModel(candidate, observer=observer),
        lambda observer: BundleModel(reference, observer=observer),
        request.prompt, bundle.model, request.sampling, steps=steps,
    )  # fmt: skip
    return _Result(graphs=graphs, agreement=agreement, reference=name)


def _passes(result: _Result, tolerance: float, router: float | None) -> bool:
    """Whether a comparison passes.

    `router`: the required share of equal decisions, for a comparison in which a token may be routed differently, which
    moves the logits by more than rounding does. None: logits within the tolerance, routing and codes equal.
    """
    agreement = result.agreement
    if not all(graph.max_abs_error <= allowed_error(graph.max_abs_value, tolerance) for graph in result.graphs):
        return False
    if router is not None:
        return agreement.router_agreement >= router
    return (
        agreement.max_logit_error <= allowed_error(agreement.max_logit_value, tolerance)
        and agreement.equal_sets == 1.0
        and agreement.first_difference is None
    )


def _print_graphs(result: _Result, title: str, tolerance: float, exact: bool) -> None:
    agreement = result.agreement
    rows = _grouped(
        [(one.graph, one.max_abs_error, allowed_error(one.max_abs_value, tolerance)) for one in result.graphs]
    )
    allowed = allowed_error(agreement.max_logit_value, tolerance)
    verdict = "ok" if not exact or agreement.max_logit_error <= allowed else "FAILS"
    steps = f"logits over {agreement.steps} forced steps"
    rows.append((steps, f"{agreement.max_logit_error:.1e}", f"{allowed:.1e}" if exact else "any", coloured(verdict)))
    _print_errors(rows, title)
    click.echo(_agreement_lines(agreement))


def _print_errors(rows: Sequence[Sequence[str]], title: str) -> None:
    print_table(columns("graphs", "largest error", "allowed", "", left=("",)), rows, title=title)


def _grouped(rows: Sequence[tuple[str, float, float]]) -> list[tuple[str, str, str, str]]:
    """Graph, largest error, allowed error, verdict. One row stands for all experts of a layer: the worst one."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for graph, error, allowed in rows:
        layer, is_expert, _ = graph.partition(".expert.")
        groups.setdefault(f"{layer}.expert.*" if is_expert else graph, []).append((error, allowed))
    lines = []
    for name, members in groups.items():
        error, allowed = max(members, key=lambda member: member[0] - member[1])
        count = f" × {len(members)}" if len(members) > 1 else ""
        lines.append((name + count, f"{error:.1e}", f"{allowed:.1e}", coloured("ok" if error <= allowed else "FAILS")))
    return lines


def _agreement_lines(agreement: Agreement) -> str:
    first = "none" if agreement.first_difference is None else f"step {agreement.first_difference}"
    return (
        f"router: {percent(agreement.router_agreement, 3)} of decisions agree, {percent(agreement.equal_sets, 3)} of "
        f"sets are equal\ntokens: {percent(agreement.token_agreement, 3)} agree when forced; first difference of "
        f"greedy runs: {first}"
    )


def _verify_engines(
    candidate: Backend, engine_set: EngineSet, steps: int, tolerance: float | None, json_to: str | None
) -> bool:
    """Verify a set of engines, print the result, and write the record. True if they passed.

    The reference is ONNX Runtime on the CPU, or numpy if ONNX Runtime is not installed.
    """
    bundle = candidate.bundle
    if find_spec("onnxruntime") is not None:
        reference, name = open_backend("onnxruntime", bundle), "ONNX Runtime on the CPU"
    else:
        reference, name = open_backend("numpy", bundle), "the numpy oracle"
    with progress_bar("comparing engines") as progress:
        found = verify_engines(candidate, reference, engine_set, steps=steps, tolerance=tolerance, progress=progress)
    try:
        path = write_verification(engine_set.path, found)
    except OSError as error:
        raise OutputError(
            f"{engine_set.path}: the record cannot be written ({error.strerror}); make the folder writable"
        ) from None
    if write_json(found.to_dict(), json_to):
        return found.passed
    rows = _grouped([(key, verdict.max_abs_error, verdict.allowed) for key, verdict in found.engines.items()])
    _print_errors(rows, f"{engine_set.path} against {name}")
    click.echo(_agreement_lines(found.agreement))
    machine = f"{found.machine['gpu'] or 'no GPU'}, driver {found.machine['driver'] or 'unknown'}"
    click.echo(f"{'verified' if found.passed else 'NOT verified: see the table'} ({machine}); record: {path}")
    return found.passed
