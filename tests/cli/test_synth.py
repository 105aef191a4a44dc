"""`unimoe synth --memory-budget`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import run
from tests.speaking_bundle import write_speaking_bundle


@pytest.mark.slow
def test_the_same_file_with_any_budget(tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path)
    request = ("synth", bundle, "--task", "music", "--text", "flute: C4 E4", "--seed", "3", "-o")
    assert run(*request, tmp_path / "all.wav").returncode == 0
    none = run(*request, tmp_path / "none.wav", "--memory-budget", "0")
    assert none.returncode == 0, none.stderr
    assert "found there; waited" in none.stdout and "times as slow" in none.stdout
    some = run(*request, tmp_path / "some.wav", "--memory-budget", "10MB", "--json")
    found = json.loads(some.stdout)["experts_in_memory"]
    assert found["budget_bytes"] == 10_000_000 and 0 < found["misses"] < found["uses"]
    for name in ("none.wav", "some.wav"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "all.wav").read_bytes()
