"""The GPU measurement: its parts run independently of each other's failures and within their limits. Needs no GPU."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.gpu_day import Part, parts, run_parts


def part(name: str, code: str, *, limit_s: float = 20, needs: str | None = None) -> Part:
    return Part(name=name, command=("-c", code), limit_s=limit_s, output=f"{name}.txt", needs=needs)


def test_a_part_that_fails_or_takes_too_long_stops_no_other(tmp_path: Path) -> None:
    outcomes = run_parts(
        [
            part("good", "print('one result')"),
            part("bad", "import sys; sys.exit('no such device')"),
            part("slow", "import time; time.sleep(30)", limit_s=0.5),
            part("after", "print('two')", needs="good"),
            part("dependent", "print('three')", needs="bad"),
        ],
        tmp_path,
    )
    assert [one.status for one in outcomes] == ["ok", "failed", "too long", "ok", "left out"]
    assert outcomes[1].said == "no such device" and "'bad' did not succeed" in outcomes[4].said
    assert (tmp_path / "good.txt").read_text() == "one result\n"
    assert [one["status"] for one in json.loads((tmp_path / "summary.json").read_text())][2] == "too long"
    assert "| bad | failed |" in (tmp_path / "summary.md").read_text()


def test_the_limit_of_all_parts_leaves_the_rest_out(tmp_path: Path) -> None:
    outcomes = run_parts([part("slow", "import time; time.sleep(9)"), part("late", "print(1)")], tmp_path, 0.5)
    assert [one.status for one in outcomes] == ["too long", "left out"]


def test_the_parts_of_a_gpu_and_of_a_rehearsal(tmp_path: Path) -> None:
    names = ["doctor", "export", "verify", "steps at 384", "steps at 1024", "steps at 2048"]
    names += ["shared steps", "first audio"]
    for rehearse, backend in ((False, "onnxruntime-cuda"), (True, "onnxruntime")):
        chosen = parts(tmp_path / "checkpoint", tmp_path, rehearse=rehearse)
        assert [one.name for one in chosen] == names
        assert all(backend in one.command for one in chosen if one.name in ("verify", "shared steps", "first audio"))
        assert len({one.output for one in chosen}) == len(chosen)
        assert all(("--rehearse" in one.command) == rehearse for one in chosen if "steps at" in one.name)
