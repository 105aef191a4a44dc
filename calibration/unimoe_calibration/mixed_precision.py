"""From a plan that quantizes everything to one within limits: the most sensitive graphs stay more precise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import working_folder
from unimoe_runtime.hardware.targets import Target

from .costs import graph_bytes, step_ms
from .data import Sample
from .gathering import Progress
from .mixing import MixedBackend
from .schemes import LinearPlan, QuantizationPlan, Scheme
from .search import Choice, Mixture, MixtureLimits, Search
from .sensitivity import Sensitivity, Trial
from .writing import write_quantized

FLOAT = Scheme.FLOAT.value
NUM_SAMPLES = 4
"""Number of items in a trial of a mixture: each trial reads all of them."""


@dataclass(frozen=True, kw_only=True)
class Formats:
    """A bundle for each format, all with the same smoothing so that their graphs can be mixed, and a trial of them."""

    plans: Mapping[str, QuantizationPlan]
    bundles: Mapping[str, Bundle]
    backend: MixedBackend
    trial: Trial

    @property
    def quantized(self) -> list[str]:
        return [name for name in self.plans if name != FLOAT]


@contextmanager
def open_formats(
    bundle: Bundle,
    plan: QuantizationPlan,
    samples: Sequence[Sample],
    target: Target,
    folder: Path,
    progress: Progress | None = None,
) -> Iterator[Formats]:
    """Write the formats under `folder`, open for the duration of the block. Raises OutputError where writing fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written here ({error.strerror})") from None
    plans = _formats(plan, target)
    with working_folder(folder, "mixing") as temporary:
        bundles: dict[str, Bundle] = {}
        for index, (name, each) in enumerate(plans.items()):
            if progress is not None:
                progress(f"all graphs as {name}", index, len(plans))
            write_quantized(bundle, temporary / name, each, {})
            bundles[name] = open_bundle(temporary / name)
        backend = MixedBackend(bundles, FLOAT)
        try:
            yield Formats(plans=plans, bundles=bundles, backend=backend, trial=Trial(backend, samples[:NUM_SAMPLES]))
        finally:
            backend.close()


def mix_precisions(
    formats: Formats,
    plan: QuantizationPlan,
    limits: MixtureLimits,
    sensitivities: Sequence[Sensitivity],
    target: Target,
) -> tuple[QuantizationPlan, Mixture]:
    """The plan with some graphs in 8-bit weights or in float, so that the mixture respects the limits.

    With a limit on latency and a target of unknown bandwidth, latencies are timed: only then may the next run choose
    otherwise. Raises CalibrationError where no mixture respects the limits.
    """
    trial = formats.trial
    known = limits.max_latency_ms is not None or target.bandwidth_gb_per_s is not None
    latency_ms = step_ms(formats.backend, target, trial.launched_LE()) if known else None
    search = Search(
        list(language_model_graphs(formats.backend.bundle.model)), FLOAT, sensitivities,
        graph_bytes(formats.bundles), latency_ms,
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
    return _mixed(plan, dict(formats.plans), choice), mixture


def _formats(plan: QuantizationPlan, target: Target) -> dict[str, QuantizationPlan]:
    """The plan, named after the scheme of most of its products, and the more precise ones: weights alone in 8 bits,
    where the plan itself is another, and float."""
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
