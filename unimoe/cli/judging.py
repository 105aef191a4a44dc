"""What `unimoe verify` says of a quantized bundle: how far it is from the one it was made of, within which limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unimoe_runtime.backends.protocol import Backend
from unimoe_tools.parity.quantized import Judgement, judge
from unimoe_tools.parity.sample_requests import standard_requests

# At least, or at most, so much; and what holds unless the user says otherwise.
AT_LEAST: Final = ("router-agreement", "equal-sets", "token-agreement", "equal-runs", "speedup")
AT_MOST: Final = ("logit-error", "kl", "spectral-db", "size", "word-errors", "notes")
_HEARD: Final = ("word-errors", "notes")
DEFAULT_LIMITS: Final = {"router-agreement": 0.97, "word-errors": 0.02, "notes": 0.03}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table: `beside` is what it is to be compared with, in words."""

    name: str
    value: float
    limit: float | None
    meaning: str
    beside: str = ""

    @property
    def passed(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.name in AT_LEAST else self.value <= self.limit


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was measured. `heard`: what a corpus's texts sounded like, `DemoFigures.summary` by bundle."""

    judgement: Judgement
    figures: tuple[Figure, ...]
    heard: Mapping[str, Mapping[str, float]]

    @property
    def passed(self) -> bool:
        return all(figure.passed for figure in self.figures)

    def to_dict(self) -> dict[str, Any]:
        figures = [
            {"name": figure.name, "value": figure.value, "limit": figure.limit, "passed": figure.passed}
            for figure in self.figures
        ]
        return {
            "passed": self.passed,
            "figures": figures,
            "judgement": asdict(self.judgement),
            "heard": {name: dict(summary) for name, summary in self.heard.items()},
        }


def judge_bundles(
    candidate: Backend,
    reference: Backend,
    *,
    steps: int,
    corpus: Path | None,
    texts: int,
    limits: Mapping[str, float],
) -> Report:
    """Measure, and hear where there is a corpus of held-out texts. `limits` come on top of `DEFAULT_LIMITS`."""
    for name in limits:
        if name in _HEARD and corpus is None:
            raise click.UsageError(f"the limit of {name} needs a corpus (--corpus)")
        if name == "spectral-db" and reference.bundle.codec is None:
            raise click.UsageError(f"the limit of {name} needs a bundle with a codec")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tick = _ticker(bar, "comparing answers")
        judgement = judge(candidate, reference, standard_requests(reference.bundle), steps=steps, tick=tick)
        heard = {}
        if corpus is not None:
            for name, backend in (("candidate", candidate), ("reference", reference)):
                heard[name] = _hear(backend, corpus, texts, _ticker(bar, f"listening to the {name}"))
    wanted = {**DEFAULT_LIMITS, **limits}
    figures = [*_measured(judgement, wanted), *_heard(heard, wanted)]
    return Report(judgement=judgement, figures=tuple(figures), heard=heard)


def _ticker(bar: Progress, name: str) -> Callable[[int, int], None]:
    task = bar.add_task(name, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _hear(backend: Backend, corpus: Path, texts: int, tick: Callable[[int, int], None]) -> dict[str, float]:
    from unimoe.data.corpus import Corpus
    from unimoe.evaluation.demo import NO_WORDS
    from unimoe.evaluation.demo import judge as listen
    from unimoe.evaluation.suite import synthesize_with
    from unimoe_runtime.synthesis.synthesizer import Synthesizer

    opened = Corpus.open(corpus)
    synthesize = synthesize_with(Synthesizer(backend.bundle, backend), opened.sample_rate_hz)
    figures = listen(synthesize, opened, num_texts=texts, tick=tick)
    words = sum((score for voice in figures.voices.values() for score in voice.words.values()), NO_WORDS)
    overall = {"wer": words.rates()["wer"], "words": words.num_words} if words.num_words else {}
    return {**figures.summary(), **overall}


def _measured(found: Judgement, limits: Mapping[str, float]) -> Iterator[Figure]:
    forced = found.forced
    rows = [
        ("router-agreement", forced.router_agreement, f"equal decisions, of {forced.num_tokens} forced tokens", ""),
        ("equal-sets", forced.equal_sets, "tokens whose whole set of experts is equal, layer by layer", ""),
        ("logit-error", forced.logit_error, "relative error of forced logits", f"largest {forced.max_logit_error:.3g}"),
        ("kl", forced.kl_nats, "divergence of what codes are drawn from, nats", ""),
        ("token-agreement", forced.token_agreement, "likeliest code equal, forced", ""),
        ("equal-runs", found.equal_runs, "answers equal to the last code, same seed", _first(found)),
    ]
    if found.spectral_db is not None:
        beside = f"another seed: {found.other_seed_db:.2f} dB"
        rows.append(("spectral-db", found.spectral_db, "log-mel distance of the audio, dB", beside))
    size = f"{found.graph_bytes / 1e6:.2f} MB of {found.reference_graph_bytes / 1e6:.2f}"
    speed = f"{found.step_ms:.2f} ms a step, reference {found.reference_step_ms:.2f}"
    rows += [
        ("size", found.size, "bytes of the language model's graphs, part of the reference's", size),
        ("speedup", found.speedup, "decode steps, times as fast", speed),
    ]
    for name, value, meaning, beside in rows:
        yield Figure(name=name, value=value, limit=limits.get(name), meaning=meaning, beside=beside)


def _first(found: Judgement) -> str:
    steps = [step for step in found.first_differences if step is not None]
    return f"first difference at step {min(steps)} to {max(steps)}" if steps else "no difference"


def _heard(heard: Mapping[str, Mapping[str, float]], limits: Mapping[str, float]) -> Iterator[Figure]:
    if not heard:
        return
    ours, theirs = heard["candidate"], heard["reference"]
    for name, key, sign, meaning in (
        ("word-errors", "wer", 1, "word error rate above the reference's"),
        ("notes", "notes_exact", -1, "share of notes right below the reference's"),
    ):
        if key in ours and key in theirs:
            beside = f"{100 * ours[key]:.2f} %, reference {100 * theirs[key]:.2f} %"
            value = sign * (ours[key] - theirs[key])
            yield Figure(name=name, value=value, limit=limits.get(name), meaning=meaning, beside=beside)


def print_report(report: Report, title: str) -> None:
    """The table: figure, value, limit, verdict."""
    table = Table("figure", title=title, title_justify="left", box=None)
    table.add_column("value", justify="right")
    table.add_column("limit", justify="right")
    for name in ("", "of what", "beside"):
        table.add_column(name)
    for figure in report.figures:
        bound = "≥" if figure.name in AT_LEAST else "≤"
        limit = "" if figure.limit is None else f"{bound} {figure.limit:g}"
        verdict = "" if figure.limit is None else ("ok" if figure.passed else "FAILS")
        table.add_row(figure.name, f"{figure.value:.4g}", limit, verdict, figure.meaning, figure.beside)
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table, highlight=False)
