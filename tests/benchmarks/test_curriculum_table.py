"""The experiment's table is written between the page's markers and gives mean and range over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.curriculum_table import write_plot, write_table


def result(variant: str, seed: int, loss: float) -> dict[str, Any]:
    words = {"digits": {"wer": 0.1, "original_wer": 0.0, "rotated_wer": 1.0}}
    audio = {
        "summary": {"digits_wer": 0.1, "commands_wer": 0.2, "notes_exact": 0.9},
        "voices": {"ann": {"words": words}},
        "instruments": {"flute": {"original_notes_exact": 1.0, "rotated_notes_exact": 0.1}},
    }
    return {
        "variant": variant, "seed": seed, "loss": {"speech": loss, "music": 2 * loss}, "audio": audio,
        "active_ffn_parameters_a_layer": 1500,
    }  # fmt: skip


def test_the_table_replaces_what_stood_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- runs -->\nold\n<!-- end of runs -->\nafter\n")
    results = [result("dense", 0, 1.0), result("dense", 1, 2.0), result("curriculum", 0, 1.5)]
    for _ in range(2):
        write_table(results, page)
    text = page.read_text()
    assert "old" not in text and text.startswith("before\n") and text.endswith("<!-- end of runs -->\nafter\n")
    assert "| joint, dense | 2 | 1.500 (1.000 … 2.000) | 3.000 (2.000 … 4.000) | 10.0 (10.0 … 10.0) |" in text
    assert "| three-stage curriculum (Top-P, null) | 1 | 1.500 | 3.000 |" in text
    write_plot(results, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
