"""`unimoe train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from unimoe.cli.options import (
    STDOUT,
    THREADS,
    Command,
    Group,
    Number,
    Size,
    Whole,
    json_option,
    write_json,
)
from unimoe.cli.tables import as_word, print_next
from unimoe.config import DOMAINS
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_tools.units import size


class _RecipeOrStage(Group):
    """`unimoe train RECIPE.toml` runs the recipe; `unimoe train STAGE RECIPE.toml` runs one stage."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0].endswith(".toml"):
            args = ["all", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_RecipeOrStage)
def train() -> None:
    """Train models (needs torch; rendering a corpus needs flite and fluidsynth).

    `unimoe train RECIPE.toml` runs a recipe from data to checkpoint. Under torchrun the same commands train in many
    processes: `torchrun --nproc-per-node 2 -m unimoe.cli train RECIPE.toml`.
    """


WORK = click.option(
    "--work", type=click.Path(path_type=Path), help="Folder of the stages. [default: build/RECIPE's name]"
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    options = [
        click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False)),
        WORK,
        click.option(
            "--parallel", type=click.Choice(["ddp", "fsdp"]), default="ddp", show_default=True,
            help="How several processes train: copies of the model (ddp), or layers and experts sharded (fsdp).",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return json_option(command)


def _run(
    recipe: Path, work: Path | None, parallel: Any, stages: Sequence[str], json_to: str | None, out: Path | None = None
) -> None:
    from unimoe.training.recipe import train_recipe

    work = _work_folder(recipe, work)
    train_recipe(recipe, work, stages=stages, out=out, engine=parallel, report=_report(json_to))
    if not write_json(_result(work, stages, out), json_to):
        print_next(*_next_steps(recipe, work, stages, out))


def _report(json_to: str | None) -> Callable[[str], None]:
    """Prints progress lines; on stderr when JSON goes to stdout."""
    return lambda line: click.echo(line, err=json_to == STDOUT)


def _work_folder(recipe: Path, work: Path | None) -> Path:
    return work or Path("build") / recipe.stem


def _result(work: Path, stages: Sequence[str], out: Path | None) -> dict[str, Any]:
    """Folders, and the held-out losses of each stage that has them."""
    losses = {stage: work / stage / "held_out.json" for stage in stages}
    return {
        "work": str(work),
        "checkpoint": None if out is None else str(out),
        "held_out": {stage: read_json(path, ConfigError) for stage, path in losses.items() if path.exists()},
    }


def _next_steps(recipe: Path, work: Path, stages: Sequence[str], out: Path | None) -> Sequence[str]:
    if out is None:
        following = {"base": "specialist", "merge": "warmup", "warmup": "joint", "joint": "all"}
        return [f"`unimoe train {following.get(stages[-1], 'merge')} {as_word(recipe)}`"]
    bundle, corpus = out.parent / "bundle", work / "corpus"
    return [
        f"`unimoe export {as_word(out)} {as_word(bundle)}`",
        f'`unimoe synth {as_word(bundle)} --text "…" -o out.wav`',
        f"`unimoe eval {as_word(bundle)} --corpus {as_word(corpus if corpus.exists() else 'CORPUS')} --html eval.html`",
    ]


@train.command("all", cls=Command)
@_with_options
@click.option("--out", type=click.Path(path_type=Path), help="The checkpoint. [default: WORK/checkpoint]")
def whole(recipe: Path, work: Path | None, parallel: str, json_to: str | None, out: Path | None) -> None:
    """All of RECIPE: data, codec, front end, every stage, checkpoint. Resumes after an interruption."""
    from unimoe.training.curriculum import STAGES

    work = _work_folder(recipe, work)
    _run(recipe, work, parallel, STAGES, json_to, out or work / "checkpoint")


@train.command(cls=Command)
@click.argument("recipe", type=click.Path(path_type=Path))
@json_option
def check(recipe: Path, json_to: str | None) -> None:
    """Check all of RECIPE and its requirements without running it."""
    from unimoe.training.recipe_check import check_recipe

    check_recipe(recipe)
    if not write_json({"recipe": str(recipe), "sound": True}, json_to):
        click.echo(f"{recipe}: sound\nnext: `unimoe train {as_word(recipe)}`")


@train.command(cls=Command)
@_with_options
def base(recipe: Path, work: Path | None, parallel: str, json_to: str | None) -> None:
    """The dense base: a short run on all data. All specialists start from it."""
    _run(recipe, work, parallel, ["base"], json_to)


@train.command(cls=Command)
@_with_options
@click.option("--domain", type=click.Choice(DOMAINS), help="Train only this domain. [default: each in turn]")
def specialist(recipe: Path, work: Path | None, parallel: str, json_to: str | None, domain: str | None) -> None:
    """One dense specialist per domain, from the base, on that domain's clips."""
    _run(recipe, work, parallel, [f"specialist-{name}" for name in ([domain] if domain else DOMAINS)], json_to)


@train.command(cls=Command)
@_with_options
def merge(recipe: Path, work: Path | None, parallel: str, json_to: str | None) -> None:
    """The Mixture of Experts, merged from the specialists: their slices become experts, the rest is averaged."""
    _run(recipe, work, parallel, ["merge"], json_to)


@train.command(cls=Command)
@_with_options
def warmup(recipe: Path, work: Path | None, parallel: str, json_to: str | None) -> None:
    """Train gate and shared experts alone, on the balanced set."""
    _run(recipe, work, parallel, ["warmup"], json_to)


@train.command(cls=Command)
@_with_options
def joint(recipe: Path, work: Path | None, parallel: str, json_to: str | None) -> None:
    """Train all weights on the balanced set while the auxiliary loss is annealed."""
    _run(recipe, work, parallel, ["joint"], json_to)


@train.command(cls=Command)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    default=Path("recipes/demo.toml"),
    show_default=True,
    help="The recipe.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("build/train-demo"),
    show_default=True,
    help="Folder of the run.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The checkpoint. [default: WORK/checkpoint]")
@json_option
def demo(recipe: Path, work: Path, out: Path | None, json_to: str | None) -> None:
    """A recipe without stages: corpus, codec, front end, one joint run. Resumes after an interruption."""
    from unimoe.training.demo import train_demo

    out = out or work / "checkpoint"
    losses = train_demo(recipe, work, out, report=_report(json_to))
    if not write_json({"work": str(work), "checkpoint": str(out), "held_out": losses}, json_to):
        print_next(*_next_steps(recipe, work, [], out))


@train.command(cls=Command)
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@WORK
@click.option("--threads", type=THREADS, default=2, show_default=True, help="CPU threads.")
@json_option
def codec(recipe: Path, work: Path | None, threads: int, json_to: str | None) -> None:
    """The codec of RECIPE alone, from its sections [data] and [codec]. Resumes after an interruption."""
    import torch

    from unimoe.training.material import make_codec, open_corpus
    from unimoe.training.recipe_check import read_recipe

    torch.set_num_threads(threads)
    work, content = _work_folder(recipe, work), read_recipe(recipe, ["data", "codec"])
    report = _report(json_to)
    made = make_codec(content["codec"], open_corpus(content["data"], work, report), work, report)
    if not write_json({"codec": str(made)}, json_to):
        click.echo(f"codec in {made}\nnext: name it in a recipe, `[codec] folder`")


@train.command(cls=Command)
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("package", type=click.Path(path_type=Path))
@WORK
@click.option("--max-bytes", type=Size(), default="60MB", show_default=True, help="Largest size of the package.")
@click.option(
    "--max-audio-bytes", type=Size(), default="25MB", show_default=True, help="Largest size of the excerpt of audio."
)
@json_option
def pack(
    recipe: Path, package: Path, work: Path | None, max_bytes: int, max_audio_bytes: int, json_to: str | None
) -> None:
    """Pack the training data of RECIPE into the small folder PACKAGE, for a run on another machine.

    PACKAGE holds tokens, settings, the codec and an excerpt of the audio. The command first makes what the work folder
    lacks of these.
    """
    from unimoe.training.package import PackageLimits
    from unimoe.training.recipe import pack_recipe

    limits = PackageLimits(total_mb=max_bytes / 1e6, audio_mb=max_audio_bytes / 1e6)
    report = _report(json_to)
    num_bytes = pack_recipe(recipe, _work_folder(recipe, work), package, limits, report)
    if not write_json({"package": str(package), "bytes": num_bytes}, json_to):
        click.echo(f"{package}: {size(num_bytes)}")
        click.echo(f"next, on the other machine: `unimoe train timed {as_word(package)} RESULT --work WORK`")


@train.command(cls=Command)
@click.argument("package", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the stages, for this run.")
@click.option("--minutes", type=Number(min=0), default=9.0, show_default=True, help="Time for the whole run.")
@click.option(
    "--codec-share",
    type=Number(min=0, max=1),
    default=0.4,
    show_default=True,
    help="Share of the time that finishes the codec.",
)
@click.option("--batch-size", type=Whole(1), default=96, show_default=True, help="Clips in a step of the token model.")
@click.option(
    "--codec-batch-size",
    type=Whole(1),
    default=32,
    show_default=True,
    help="Segments in a step of the codec.",
)
@json_option
def timed(package: Path, result: Path, work: Path, json_to: str | None, **budget: Any) -> None:
    """Train PACKAGE for the given minutes on this machine's GPU or CPU: first the token model, then the codec.

    Where the recipe has a [decoder], half of the codec's time trains its decoder on the model's predictions.

    RESULT receives the weights of both in bfloat16 and a report.
    """
    from unimoe.training.package import open_package
    from unimoe.training.timed import TimeBudget, train_in_time

    report = _report(json_to)
    found = train_in_time(open_package(package), result, work, TimeBudget(**budget), report)
    if not write_json(found, json_to):
        click.echo(f"next, where the recipe is: `unimoe train unpack RECIPE {as_word(result)} CHECKPOINT`")


@train.command(cls=Command)
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("result", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("checkpoint", type=click.Path(path_type=Path))
@WORK
@json_option
def unpack(recipe: Path, result: Path, checkpoint: Path, work: Path | None, json_to: str | None) -> None:
    """Make a CHECKPOINT from the RESULT of a timed run, with RECIPE's front end and sampling.

    Where RECIPE has a [decoder] that the timed run did not train, this command first trains it for that model.
    """
    from unimoe.training.recipe import unpack_result

    report = _report(json_to)
    unpack_result(recipe, _work_folder(recipe, work), result, checkpoint, report)
    if not write_json({"checkpoint": str(checkpoint)}, json_to):
        click.echo(f"checkpoint in {checkpoint}\nnext: `unimoe export {as_word(checkpoint)} BUNDLE`")
