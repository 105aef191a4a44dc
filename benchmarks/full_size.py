"""Exporting the published model at its full size: time, memory, bytes written, and resuming after a kill.

    python -m benchmarks.full_size --folder DIR

The weights are random: `benchmarks.published_folder` makes 14.3 GB of them. DIR holds at most three times that, and is
empty afterwards. Each timing starts without the folder's files in the page cache, and ends when all written data are on
the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.markdown import machine_line
from benchmarks.output import add_output_options, write_outputs
from benchmarks.published_folder import published_config, write_published_folder
from unimoe_runtime.bundle.reader import open_bundle

# Runs in a separate process. Arguments: checkpoint, bundle, precision, share of the parts after which it is killed.
_EXPORT = """
import json, os, signal, sys, time
from pathlib import Path
from unimoe_export.exporter import export_bundle
import unimoe_runtime.backends.onnxruntime, onnx_ir

def status(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])

def watch(index, count, name):
    if index >= float(sys.argv[4]) * count and index < count:
        os.kill(os.getpid(), signal.SIGKILL)

base, start = status("VmRSS"), time.perf_counter()
result = export_bundle(sys.argv[1], sys.argv[2], precision=sys.argv[3], progress=watch)
os.sync()
written = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
print(json.dumps({
    "seconds": time.perf_counter() - start, "interpreter_bytes": base, "peak_bytes": status("VmHWM"),
    "bundle_bytes": result.num_bytes, "disk_write_bytes": int(written["write_bytes"]),
    "graphs": result.num_graphs, "largest_error": result.largest_error,
}))
"""


def export(checkpoint: Path, bundle: Path, precision: str, *, kill_at: float = 2.0) -> dict[str, Any] | None:
    """Export in a fresh process. Returns its figures, or None if killed after the share `kill_at` of its parts."""
    drop_from_cache(checkpoint)
    roots = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", _EXPORT, str(checkpoint), str(bundle), precision, str(kill_at)],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == -signal.SIGKILL and kill_at < 1:
        return None
    if done.returncode:
        raise SystemExit(f"the export failed:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout)
    figures["peak_above_interpreter_bytes"] = figures["peak_bytes"] - figures["interpreter_bytes"]
    return figures


def killed_and_resumed(checkpoint: Path, bundle: Path, precision: str, whole: Path, share: float) -> dict[str, Any]:
    """Kill an export after a share of its parts, start it again, and compare the bundle with an uninterrupted one."""
    start = time.perf_counter()
    if export(checkpoint, bundle, precision, kill_at=share) is not None:
        raise SystemExit("the export was not killed")
    seconds_until_killed = time.perf_counter() - start
    left = sum(file.stat().st_size for file in (bundle.parent / f".{bundle.name}.part").rglob("*.safetensors"))
    figures = export(checkpoint, bundle, precision)
    assert figures is not None
    return {
        "killed_after_share": share,
        "seconds_until_killed": seconds_until_killed,
        "bytes_found": left,
        "seconds_to_resume": figures["seconds"],
        "disk_write_bytes": figures["disk_write_bytes"],
        "peak_above_interpreter_bytes": figures["peak_above_interpreter_bytes"],
        "equal_to_uninterrupted": open_bundle(bundle).files == open_bundle(whole).files,
    }


def copy_seconds(source: Path, target: Path) -> float:
    """Seconds to copy a folder's files, until they are on the disk."""
    drop_from_cache(source)
    start = time.perf_counter()
    shutil.copytree(source, target)
    os.sync()
    return time.perf_counter() - start


def drop_from_cache(folder: Path) -> None:
    """Drop a folder's files from the page cache, so that the next read comes from the disk."""
    os.sync()
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def run(folder: Path, config: dict[str, Any], precisions: list[str], console: Console) -> dict[str, Any]:
    """All figures. All files lie in `folder`, which this function creates, and removes at the end."""
    folder.mkdir(parents=True)
    try:
        checkpoint = folder / "published"
        start = time.perf_counter()
        with console.status("writing random weights"):
            num_bytes = write_published_folder(checkpoint, config)
        result: dict[str, Any] = {
            "machine": {
                "cores": len(os.sched_getaffinity(0)),
                "load before": round(os.getloadavg()[0], 1),
                "onnxruntime": version("onnxruntime"),
            },
            "layers": config["text_config"]["num_hidden_layers"],
            "checkpoint_bytes": num_bytes,
            "seconds_to_write_random_weights": time.perf_counter() - start,
        }
        with console.status("copying"):
            result["copy_seconds"] = copy_seconds(checkpoint, folder / "copy")
        shutil.rmtree(folder / "copy")
        result["exports"] = {}
        for precision in precisions:
            whole, again = folder / precision, folder / f"{precision}-again"
            with console.status(f"export in {precision}"):
                figures = export(checkpoint, whole, precision)
            assert figures is not None
            result["exports"][precision] = figures
            if precision == precisions[0]:
                with console.status("checking every file's hash"):
                    figures["files_sound"] = len(list(open_bundle(whole).check_all()))
                with console.status("kill and resume"):
                    result["resume"] = killed_and_resumed(checkpoint, again, precision, whole, 0.6)
                shutil.rmtree(again)
            shutil.rmtree(whole)
        result["machine"]["load after"] = round(os.getloadavg()[0], 1)
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def markdown(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    copy = result["copy_seconds"]
    lines = [
        machine_line(result["machine"]),
        "",
        f"A folder in the published format, {result['layers']} layers, {result['checkpoint_bytes'] / 1e9:.2f} GB of "
        f"random bfloat16; a plain copy of it takes {copy:.0f} s.",
        "",
        "| export | seconds | × copy | peak memory above the interpreter | bundle | written to disk | deviation |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for precision, one in result["exports"].items():
        lines.append(
            f"| {precision} | {one['seconds']:.0f} | {one['seconds'] / copy:.2f} "
            f"| {one['peak_above_interpreter_bytes'] / 1e6:.0f} MB | {one['bundle_bytes'] / 1e9:.2f} GB "
            f"| {one['disk_write_bytes'] / 1e9:.2f} GB | {one['largest_error']:.1e} |"
        )
    resume = result["resume"]
    equal = "equal" if resume["equal_to_uninterrupted"] else "NOT EQUAL"
    lines += [
        "",
        f"Killed (SIGKILL) after {resume['killed_after_share']:.0%} of its parts, {resume['seconds_until_killed']:.0f} "
        f"s in, it found {resume['bytes_found'] / 1e9:.2f} GB again, checked them by hash and needed "
        f"{resume['seconds_to_resume']:.0f} s and {resume['disk_write_bytes'] / 1e9:.2f} GB of writing for the rest; "
        f"every file {equal} to that of the export that was not interrupted.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="new folder for some 45 GB of temporary files")
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--vision-blocks", type=int, default=32)
    parser.add_argument("--precision", nargs="+", default=["bfloat16", "float16"])
    add_output_options(parser)
    arguments = parser.parse_args()
    config = published_config(num_layers=arguments.layers, num_vision_blocks=arguments.vision_blocks)
    result = run(arguments.folder, config, arguments.precision, Console(stderr=True))
    write_outputs(arguments, result, markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
