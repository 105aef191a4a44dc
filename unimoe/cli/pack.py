"""`unimoe pack` and `unimoe unpack`: one file of a bundle for a device, verified on arrival."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import Command, json_option, write_json
from unimoe.cli.progress import Progress, progress_bar
from unimoe.cli.tables import as_word, columns, print_next, print_table
from unimoe_runtime.bundle.engine_sets import built_targets, open_engines
from unimoe_runtime.bundle.manifest import DECODER, HALVED, MANIFEST, trunk_name
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.errors import ConfigError
from unimoe_tools.bundles.packing import PackPlan, plan_pack, unpack, write_pack
from unimoe_tools.output import require_writable
from unimoe_tools.units import count, size

_CODECS = ("auto", "fp16", "fp32")


@click.command("pack", cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.option("--target", default="cpu", show_default=True, help="The device: a row of the table of targets.")
@click.option(
    "-o", "--output", "file", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write."
)
@click.option(
    "--with-graphs", is_flag=True, help="Keep graphs that engines stand for, so that `verify` runs on the device."
)
@click.option(
    "--codec",
    type=click.Choice(_CODECS),
    default="auto",
    show_default=True,
    help="Weights of the codec's decoder: auto takes 16 bits where the difference cannot be heard.",
)
@json_option
def pack_command(bundle: Path, target: str, file: Path, with_graphs: bool, codec: str, json_to: str | None) -> None:
    """Write the one FILE that a device needs of a BUNDLE, and print the size of each part.

    The pack leaves out the codec's encoder if the model clones no voice, the texts for calibration, and the graphs
    that the target's engines replace. `unimoe unpack FILE` on the device verifies every byte.
    """
    require_writable(file)
    notes: list[str] = []
    plan = plan_pack(open_bundle(bundle), target, with_graphs=with_graphs)
    with progress_bar("packing") as progress, _with_codec(plan, codec, notes, progress) as whole:
        num_bytes = write_pack(whole, file, progress=progress)
        parts = whole.parts()
    record = {
        "file": str(file), "bytes": num_bytes, "target": target, "parts": [asdict(part) for part in parts],
        "notes": notes,
    }  # fmt: skip
    if write_json(record, json_to):
        return
    rows = [[part.name, size(part.before), size(part.after) if part.after else "–", part.reason] for part in parts]
    manifest = (bundle / MANIFEST).stat().st_size
    rows.append(["manifest", size(manifest), size(num_bytes - sum(part.after for part in parts)), "with every SHA-256"])
    rows.append(["all", size(sum(part.before for part in parts) + manifest), size(num_bytes), ""])
    print_table(columns("part", "bundle", "pack", "why", prose=("why",)), rows)
    for note in notes:
        click.echo(note)
    print_next(f"copy {file} to the device", f"`unimoe unpack {as_word(file.name)}`", "`unimoe doctor`")


@contextmanager
def _with_codec(plan: PackPlan, codec: str, notes: list[str], progress: Progress) -> Iterator[PackPlan]:
    """The plan with the decoder in 16 bits, if requested; with auto, only if the difference is inaudible."""
    graph = plan.bundle.graphs.get(DECODER)
    left_out = {*plan.left_out, *plan.bundle.left_out}
    if codec == "fp32" or graph is None or graph.weights in left_out or not _is_fp32(plan.bundle, graph.precision):
        yield plan
        return
    if _has_engine(plan, DECODER):
        if codec == "fp16":
            raise ConfigError(
                "--codec fp16: the engine of the codec's decoder is built from fp32 weights, and other weights would "
                "make it stale; leave --codec out"
            )
        notes.append("codec decoder kept in fp32: its engine is built from it")
        yield plan
        return
    try:
        from unimoe_calibration.half_codec import halve_codec
    except ModuleNotFoundError as error:
        if codec == "fp16":
            raise
        notes.append(f"codec decoder kept in fp32: its weights cannot be rewritten without {error.name}")
        yield plan
        return
    with tempfile.TemporaryDirectory(prefix="unimoe-pack-") as folder:
        progress("listening to the codec in 16 bits", 0, 1)
        halved = halve_codec(plan.bundle, Path(folder))
        difference = f"{halved.distance_db:.3f} dB log-mel distance, {halved.signal_to_noise_db:.0f} dB signal to noise"
        if codec == "auto" and not halved.is_harmless:
            notes.append(f"codec decoder kept in fp32: 16 bits make a difference of {difference}")
            yield plan
            return
        notes.append(f"codec decoder in 16 bits: {difference}, beside fp32")
        yield replace(plan, replaced=halved.files, replaced_why="weights in 16 bits")


def _is_fp32(bundle: Bundle, precision: str) -> bool:
    """Whether the decoder is stored in fp32 throughout: an unpacked bundle's may already be in 16 bits."""
    return precision == "float32" and not any(name.endswith(HALVED) for name in bundle.weights(DECODER).entries)


def _has_engine(plan: PackPlan, graph: str) -> bool:
    return plan.engine_set is not None and any(one.graph == graph for one in plan.engine_set.engines.values())


@click.command("unpack", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@json_option
def unpack_command(file: Path, folder: Path | None, json_to: str | None) -> None:
    """Unpack the bundle of a pack FILE into FOLDER (default: the file's name) and verify every byte."""
    place = folder or Path(file.name.removesuffix("".join(file.suffixes)) or "bundle")
    with progress_bar("verifying") as progress:
        bundle = unpack(file, place, progress=progress)
    num_files, num_engines = len(bundle.files) - len(bundle.left_out), 0
    for target in built_targets(bundle):
        num_engines += len(open_engines(bundle, target).engines)
    if not write_json({"bundle": str(place), "files": num_files, "engines": num_engines}, json_to):
        engines = f" and {count(num_engines, 'engine')}" if num_engines else ""
        click.echo(f"{place}: {count(num_files, 'file')}{engines}, each as it was packed")
        has_trunks = bundle.graphs[trunk_name(0)].file not in bundle.left_out
        check = ""
        options = "" if has_trunks else " --backend tensorrt --trust-engines"
        if has_trunks and built_targets(bundle):
            check = f"`unimoe verify {as_word(place)} --backend tensorrt --trust-engines`"
        print_next("`unimoe doctor`", check, f'`unimoe synth {as_word(place)}{options} --text "…" -o out.wav`')
