"""`python -m tests.robustness --cases N --seed S`: a campaign, which resumes after an interruption."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tests.robustness.campaign import Campaign, format_counts
from tests.robustness.cases import seeds
from tests.robustness.kills import KINDS, Killer
from tests.robustness.writers import WRITERS


@click.command()
@click.option("--cases", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/robustness"), show_default=True)
@click.option("--one", type=int, help="Run the case of one seed and show what it said.")
@click.option("--only", multiple=True, help="Draw cases of this mutator, or kill this command, alone; may be repeated.")
@click.option("--kills", type=click.IntRange(1), help="Kill writing commands so many times instead.")
@click.option("--show", multiple=True, type=click.Path(path_type=Path), help="Journals to print the table of.")
def main(
    cases: int, seed: int, work: Path, one: int | None, only: tuple[str, ...], kills: int | None, show: tuple[Path, ...]
) -> None:
    """Damage CASES inputs and print the outcomes. Exit code 1 if one is not allowed."""
    if show:
        lines = [json.loads(line) for path in show for line in path.open(encoding="utf-8")]
        (print_kills if "fault" in lines[0] else print_table)(lines)
        return
    campaign = Campaign(work=work.absolute(), keep=work.absolute() / f"others-{seed}", only=only)
    if kills is not None:
        raise SystemExit(_kill(campaign, seed, kills, only))
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
            if outcome.kind == "other":
                line["said"] = outcome.said
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


def _kill(campaign: Campaign, seed: int, count: int, only: Sequence[str]) -> int:
    """Kill writers in turn, note each outcome in a journal, and print a table; 1 if one was not allowed.

    A campaign that was interrupted goes on where its journal ends.
    """
    commit, journal = _commit(), campaign.work / f"kills-{seed}.jsonl"
    lines = [json.loads(line) for line in journal.open(encoding="utf-8")] if journal.exists() else []
    killer = Killer(bases=campaign.bases, work=campaign.work)
    writers = [writer for writer in WRITERS if writer.runs_here() and (not only or writer.name in only)]
    with journal.open("a", encoding="utf-8") as file:
        for index in range(len(lines), count):
            writer, number = writers[index % len(writers)], KINDS[index // len(writers) % len(KINDS)]
            fault = killer.kill(writer, random.Random(seed * 1_000_003 + index), number)
            lines.append({"command": writer.name, "signal": number, "commit": commit, "fault": fault})
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
            click.echo(f"{index + 1} of {count}: {writer.name}, {signal.Signals(number).name}: {fault or 'good'}")
    killer.close()
    print_kills(lines)
    return int(any(line["fault"] for line in lines))


def print_kills(lines: list[dict[str, Any]]) -> None:
    """Kills by command and signal, and their faults."""
    names = [signal.Signals(number).name for number in dict.fromkeys(KINDS)]
    click.echo(f"| command | {' | '.join(names)} | faults |\n| --- |{' ---: |' * (len(names) + 1)}")
    for command in dict.fromkeys(line["command"] for line in lines):
        found = [line for line in lines if line["command"] == command]
        counts = Counter(signal.Signals(line["signal"]).name for line in found)
        cells = [str(counts[name]) for name in names] + [str(sum(bool(line["fault"]) for line in found))]
        click.echo(f"| {command} | {' | '.join(cells)} |")
    click.echo(f"{len(lines)} kills, {sum(bool(line['fault']) for line in lines)} faults")
    commits = Counter(line["commit"] for line in lines)
    click.echo("kills by commit: " + ", ".join(f"{commit} {count}" for commit, count in commits.items()))


main()
