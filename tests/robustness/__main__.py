"""`python -m tests.robustness --cases N --seed S`: a campaign, which resumes after an interruption."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import click

from tests.robustness.campaign import Campaign, format_counts
from tests.robustness.cases import seeds
from tests.robustness.kills import WRITERS, Killer, prepare


@click.command()
@click.option("--cases", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/robustness"), show_default=True)
@click.option("--one", type=int, help="Run the case of one seed and show what it said.")
@click.option("--only", multiple=True, help="Draw cases of this mutator alone; may be repeated.")
@click.option("--kills", type=click.IntRange(1), help="Kill writing commands so many times instead.")
@click.option("--show", multiple=True, type=click.Path(path_type=Path), help="Journals to print the table of.")
def main(
    cases: int, seed: int, work: Path, one: int | None, only: tuple[str, ...], kills: int | None, show: tuple[Path, ...]
) -> None:
    """Damage CASES inputs and print the outcomes. Exit code 1 if one is not allowed."""
    if show:
        print_table([json.loads(line) for path in show for line in path.open(encoding="utf-8")])
        return
    campaign = Campaign(work=work.absolute(), keep=work.absolute() / f"others-{seed}", only=only)
    if kills is not None:
        raise SystemExit(_kill(campaign, seed, kills))
    if one is not None:
        outcome = campaign.run(one)
        click.echo(f"{outcome}\n{outcome.said}")
        return
    commit = _commit()
    journal = work / f"outcomes-{seed}.jsonl"
    known = {line["seed"]: line for line in map(json.loads, journal.open(encoding="utf-8"))} if journal.exists() else {}
    with journal.open("a", encoding="utf-8") as file:
        for number, case_seed in enumerate(seeds(seed, cases), start=1):
            if case_seed in known:
                continue
            outcome = campaign.run(case_seed)
            line = {
                "seed": case_seed, "format": outcome.case.format, "what": outcome.case.what, "kind": outcome.kind,
                "commit": commit, "reason": outcome.reason,
                "seconds": round(outcome.seconds, 3), "peak_bytes": outcome.peak_bytes,
            }  # fmt: skip
            known[case_seed] = line
            file.write(json.dumps(line) + "\n")
            file.flush()
            if outcome.kind == "other":
                click.echo(f"{number}: seed {case_seed}: {outcome.case.format}: {outcome.case.what}: {outcome.reason}")
    campaign.worker.close()
    lines = [known[one] for one in seeds(seed, cases)]
    print_table(lines)
    raise SystemExit(any(line["kind"] == "other" for line in lines))


def _commit() -> str:
    """The commit of the code that runs, with "+" where files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def print_table(lines: list[dict[str, Any]]) -> None:
    """Cases by format and class, and their largest time and memory."""
    click.echo(format_counts(Counter((line["format"], line["kind"]) for line in lines)))
    click.echo(
        f"slowest {max(line['seconds'] for line in lines):.1f} s, largest "
        f"{max(line['peak_bytes'] for line in lines) / 1e6:.0f} MB over {len(lines):,} cases"
    )
    commits = Counter(line.get("commit", "unknown") for line in lines)
    click.echo("cases by commit: " + ", ".join(f"{commit} {count:,}" for commit, count in commits.items()))


def _kill(campaign: Campaign, seed: int, count: int) -> int:
    """Kill writers in turn and print the outcomes; 1 if a file was left incomplete."""
    prepare(campaign.bases)
    rng, killer, wrong = random.Random(seed), Killer(bases=campaign.bases, work=campaign.work), []
    numbers = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
    for index in range(count):
        problem = killer.kill(WRITERS[index % len(WRITERS)], rng, numbers[index // len(WRITERS) % len(numbers)])
        if problem:
            wrong.append(problem)
            click.echo(f"{index + 1}: {problem}")
    click.echo(f"{count} kills of {', '.join(writer.name for writer in WRITERS)}: {len(wrong)} left something half")
    return int(bool(wrong))


main()
