"""From a plan that quantizes everything to one that keeps within limits: the costliest graphs stay more precise."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.errors import OutputError
from unimoe_runtime.hardware.targets import Target

from .costs import graph_bytes, step_ms
from .data import Sample
from .mixing import MixedBackend
from .schemes import LinearPlan, QuantizationPlan, Scheme
from .search import Choice, Limits, Mixture, Search
from .sensitivity import Progress, Trial, measure
from .writing import write_quantized

FLOAT = Scheme.FLOAT.value
NUM_SAMPLES = 4
"""Items that a mixture is tried on: each trial reads all of them."""


def mix_precisions(
    bundle: Bundle,
    plan: QuantizationPlan,
    samples: Sequence[Sample],
    limits: Limits,
    target: Target,
    folder: Path,
    progress: Progress | None = None,
) -> tuple[QuantizationPlan, Mixture]:
    """The plan with some graphs in 8-bit weights, or in float, so that the mixture keeps to the limits.

    Each format of all graphs is written as a bundle under `folder` for as long as this takes, smoothed alike, so that
    their graphs fit together. On a target whose bandwidth is not known latencies are timed, where there is a limit on
    them: only then may the next run choose otherwise. Raises CalibrationError where no mixture keeps to the limits,
    OutputError where the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written here ({error.strerror})") from None
    plans = _formats(plan, target)
    graphs = list(language_model_graphs(bundle.model))
    with tempfile.TemporaryDirectory(prefix=".mixing-", dir=folder) as temporary:
        flavours: dict[str, Bundle] = {}
        for index, (name, each) in enumerate(plans.items()):
            if progress is not None:
                progress(f"all graphs as {name}", index, len(plans))
            write_quantized(bundle, Path(temporary) / name, each, {})
            flavours[name] = open_bundle(Path(temporary) / name)
        backend = MixedBackend(flavours, FLOAT)
        trial = Trial(backend, samples[:NUM_SAMPLES])
        sensitivities = measure(trial, [name for name in plans if name != FLOAT], progress)
        known = limits.max_latency_ms is not None or target.bandwidth_gb_per_s is not None
        latency_ms = step_ms(backend, target, trial.launched_LE()) if known else None
        search = Search(
            graphs, list(plans), FLOAT, sensitivities, graph_bytes(flavours), latency_ms,
            by_latency=limits.max_latency_ms is not None and limits.max_bytes is None,
        )  # fmt: skip
        if limits.max_loss is None:
            choice = search.most_faithful(limits)
        else:
            choice = search.smallest(limits, trial.loss)
        mixture = Mixture(
            choice=choice,
            point=search.point(choice, trial.loss(choice)),
            curve=tuple(search.curve(trial.loss)),
            sensitivities=tuple(sensitivities),
        )
        backend.close()
    return _mixed(plan, plans, choice), mixture


def _formats(plan: QuantizationPlan, target: Target) -> dict[str, QuantizationPlan]:
    """The plan, by the name of the scheme that most of it has, and what loses less: weights alone in 8 bits, where
    that is not the plan's own, and float."""
    plans = {FLOAT: _uniform(plan, Scheme.FLOAT)}
    if Scheme.W8.value in target.schemes:
        plans[Scheme.W8.value] = _uniform(plan, Scheme.W8)
    uses = Counter(one.scheme for one in plan.linears.values() if one.scheme != Scheme.FLOAT)
    if uses:
        plans[uses.most_common(1)[0][0].value] = plan
    return plans


def _uniform(plan: QuantizationPlan, scheme: Scheme) -> QuantizationPlan:
    return replace(plan, linears=dict.fromkeys(plan.linears, LinearPlan(scheme=scheme)))


def _mixed(plan: QuantizationPlan, plans: dict[str, QuantizationPlan], choice: Choice) -> QuantizationPlan:
    return replace(plan, linears={linear: plans[choice[linear.graph]].linears[linear] for linear in plan.linears})
