"""One decode step of a guided pair: ours, the alternatives, and the floor, side by side.

python -m benchmarks.decode_step [--hidden 384 1024] [--picked 0 1 2 4 8] [--threads 1 2] [--rounds N]
                                  [--json FILE] [--markdown FILE] [--join FILE…]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.output import add_output_options, write_outputs
from unimoe_tools.profiling.machine import describe_machine

from .child import ROOT, environment
from .decode_goals import best, goals, int8_floor_goals
from .markdown import machine_line, table
from .quantized import write_measured

# Beyond these limits a run proves little: quartile spread of the read kernel as a part of its median, and cores that
# other processes kept busy on average. The spread alone is not enough, because a steady load slows all reads equally,
# but not all peers.
_NOISY_SPREAD = 0.15
_NOISY_CORES = 0.1
_FILE_WIDTH = 150


def summarize(raw: dict[str, Any]) -> dict[str, Any]:
    """Medians, ratios to the floor and to ours, and the linear fit, for one process's timings."""
    bandwidths = {name: np.array(values) for name, values in raw["read_bytes_per_second"].items()}
    fastest = max(bandwidths, key=lambda name: float(np.median(bandwidths[name])))
    bandwidth = float(np.median(bandwidths[fastest]))
    low, high = np.percentile(bandwidths[fastest], [25, 75])
    steps: list[dict[str, Any]] = []
    for picked in map(str, sorted(map(int, raw["bytes"]))):
        # A visit's steps follow each other; its median is compared with the neighbouring visits of the same round.
        visits = {peer: np.median(np.array(counts[picked]), axis=1) for peer, counts in raw["seconds"].items()}
        floor = sum(raw["bytes"][picked].values()) / bandwidth
        int8_floor = sum(raw["int8_bytes"][picked].values()) / bandwidth
        medians = {peer: float(np.median(values)) for peer, values in visits.items()}
        steps.append(
            {
                "picked": int(picked),
                "bytes": sum(raw["bytes"][picked].values()),
                "floor_ms": 1e3 * floor,
                "median_ms": {peer: 1e3 * value for peer, value in medians.items()},
                "to_floor": medians["ours"] / floor,
                "int8_bytes": sum(raw["int8_bytes"][picked].values()),
                "int8_floor_ms": 1e3 * int8_floor,
                "int8_to_floor": medians["int8"] / int8_floor,
                "to_ours": {
                    peer: float(np.median(values / visits["ours"])) for peer, values in visits.items() if peer != "ours"
                },
            }
        )
    return {
        "hidden": raw["hidden"],
        "threads": raw["threads"],
        "copies": raw["copies"],
        "read_kernel": fastest,
        "read_gb_per_s": bandwidth / 1e9,
        "read_gb_per_s_by_kernel": {name: float(np.median(values)) / 1e9 for name, values in bandwidths.items()},
        "read_spread": float((high - low) / bandwidth),
        "sampling_ms": 1e3 * float(np.median(raw["sampling_seconds"])),
        "largest_difference": raw["agreement"],
        "cores_of_others": raw["cores_of_others"],
        "steps": steps,
        "linear_fit": _linear_fit([step for step in steps if step["picked"] >= 2]),
    }


def _linear_fit(steps: list[dict[str, Any]]) -> dict[str, float] | None:
    """ms = base + slope · picked, fitted to 2 and more picked experts, with R²; None for fewer than three points."""
    if len(steps) < 3:
        return None
    picked = np.array([step["picked"] for step in steps], float)
    times = np.array([step["median_ms"]["ours"] for step in steps])
    slope, base = np.polyfit(picked, times, 1)
    residual = times - (base + slope * picked)
    r_squared = 1 - (residual**2).sum() / ((times - times.mean()) ** 2).sum()
    return {"base_ms": float(base), "ms_per_expert": float(slope), "r_squared": float(r_squared)}


def machine() -> dict[str, Any]:
    """The machine that the figures were measured on."""
    return {**describe_machine(), "torch": version("torch")}


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Export each size once, and measure it at each thread count in a separate process."""
    result: dict[str, Any] = {"machine": machine(), "rounds": arguments.rounds, "runs": []}
    with tempfile.TemporaryDirectory(prefix="unimoe-benchmark-", dir=arguments.folder) as temporary:
        for hidden in arguments.hidden:
            folder = Path(temporary) / str(hidden)
            with console.status(f"hidden {hidden}: writing and exporting a random model"):
                write_measured(folder, hidden)
            for threads in arguments.threads:
                with console.status(f"hidden {hidden}, {threads} thread(s): {arguments.rounds} rounds"):
                    raw = _measure_in_process(folder, hidden, threads, arguments)
                result["runs"].append(summarize(raw))
    return judged(result)


def judged(result: dict[str, Any]) -> dict[str, Any]:
    """The result with the best of its thread counts and the goals."""
    result["best"] = best(result["runs"])
    result["goals"] = [*goals(result["best"]), *int8_floor_goals(result["runs"])]
    return result


def joined(files: list[Path]) -> dict[str, Any]:
    """One result of earlier ones (`--json`) that measured other sizes or thread counts on the same machine."""
    parts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return judged({**parts[0], "runs": [run for part in parts for run in part["runs"]]})


def _measure_in_process(folder: Path, hidden: int, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    command = [sys.executable, "-m", "benchmarks.rounds", folder, hidden, threads, arguments.rounds, *arguments.picked]
    done = subprocess.run(
        list(map(str, command)),
        env=environment(dict.fromkeys(pools, str(threads))),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of every table."""
    parts = []
    for one in result["runs"]:
        title = (
            f"hidden {one['hidden']}, {one['threads']} thread(s), ms a step of a guided pair; read "
            f"{one['read_gb_per_s']:.1f} GB/s ({one['read_kernel']}), sampling {one['sampling_ms']:.2f} ms"
        )
        peers = list(one["steps"][0]["median_ms"])
        columns = ["picked", "MB", "floor", *peers, "ours / floor", *(f"{peer} / ours" for peer in peers[1:])]
        rows = [
            [
                str(step["picked"]),
                f"{step['bytes'] / 1e6:.0f}",
                f"{step['floor_ms']:.2f}",
                *(f"{step['median_ms'][peer]:.2f}" for peer in peers),
                f"{step['to_floor']:.2f}",
                *(f"{step['to_ours'][peer]:.2f}" for peer in peers[1:]),
            ]
            for step in one["steps"]
        ]
        parts.append((title, columns, rows))
    for one in result["runs"]:
        title = f"int8 beside float32: hidden {one['hidden']}, {one['threads']} thread(s), ms a step"
        columns = ["picked", "MB", "floor", "int8", "float32", "int8 / floor", "float32 / int8"]
        rows = [
            [
                str(step["picked"]),
                f"{step['int8_bytes'] / 1e6:.0f}",
                f"{step['int8_floor_ms']:.2f}",
                f"{step['median_ms']['int8']:.2f}",
                f"{step['median_ms']['ours']:.2f}",
                f"{step['int8_to_floor']:.2f}",
                f"{1 / step['to_ours']['int8']:.2f}",
            ]
            for step in one["steps"]
        ]
        parts.append((title, columns, rows))
    best_peers = list(result["best"][0]["to_ours"])
    columns = ["hidden", "picked", "ours / floor", "ours ms", *(f"{peer} / ours" for peer in best_peers)]
    rows = [
        [
            str(row["hidden"]),
            str(row["picked"]),
            f"{row['to_floor']:.2f} ({row['to_floor_threads']})",
            f"{row['best_ms']['ours']:.2f} ({row['best_threads']['ours']})",
            *(f"{row['to_ours'][peer]:.2f} ({row['best_threads'][peer]})" for peer in best_peers),
        ]
        for row in result["best"]
    ]
    parts.append(("best over the thread counts (which one)", columns, rows))
    return parts


def notes(result: dict[str, Any]) -> list[str]:
    """Goals, linear fits, and a warning for each run on a busy machine."""
    lines = []
    for goal in result["goals"]:
        verdict = "met" if goal["met"] else "MISSED"
        ceiling = f"; a step at the floor would reach {goal['ceiling']:.2f}" if "ceiling" in goal else ""
        lines.append(f"{verdict}, {goal['name']}: worst {goal['worst']:.2f}, at {goal['picked']} picked{ceiling}")
    for one in result["runs"]:
        name = f"hidden {one['hidden']}, {one['threads']} thread(s)"
        if fit := one["linear_fit"]:
            lines.append(
                f"{name}: {fit['base_ms']:.2f} ms + {fit['ms_per_expert']:.2f} ms a picked expert over 2 and more, "
                f"R² {fit['r_squared']:.4f}"
            )
        if one["read_spread"] > _NOISY_SPREAD or one["cores_of_others"] > _NOISY_CORES:
            lines.append(
                f"WARNING {name}: others kept {one['cores_of_others']:.2f} cores busy and reads spread by "
                f"{one['read_spread']:.0%} between quartiles: no figure here means anything, repeat the run"
            )
    return lines


def markdown(result: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = [f"{machine_line(result['machine'])}, {result['rounds']} rounds", ""]
    for title, columns, rows in tables(result):
        lines += [f"**{title}**", "", *table(columns, rows), ""]
    return "\n".join(lines + [f"- {note}" for note in notes(result)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[384, 1024])
    parser.add_argument("--picked", type=int, nargs="+", default=[0, 1, 2, 4, 8], choices=range(9))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where 2 to 5 GB of temporary files may lie")
    add_output_options(parser)
    parser.add_argument("--join", type=Path, nargs="+", help="measure nothing, join results of --json")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    for file in filter(None, (arguments.json, arguments.markdown)):
        file.parent.mkdir(parents=True, exist_ok=True)  # an error here comes before the ten minutes of work
    result = joined(arguments.join) if arguments.join else run(arguments, console)
    write_outputs(arguments, result, markdown(result))
    out = Console()
    if not out.is_terminal:
        out = Console(width=_FILE_WIDTH)
    for title, columns, rows in tables(result):
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        out.print(table)
    for note in notes(result):
        out.print(note, highlight=False)


if __name__ == "__main__":
    main()
