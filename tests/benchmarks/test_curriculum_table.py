"""The experiment's table is written between the page's markers and gives mean and range over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.curriculum_table import write_long_tables, write_plot, write_table


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


def test_the_long_runs_have_their_figures_along_the_way(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = "<!-- runs -->\nshort\n<!-- end of runs -->\n<!-- long runs -->\nold\n<!-- end of long runs -->\nafter\n"
    page.write_text(marks)
    routed = {"experts_picked": 2.5, "null_share": 0.125}
    control = {"100": {"loss_speech": 2.0, "loss_music": 1.0, **routed}, "20": {"loss_speech": 3.0, "loss_music": 2.0}}
    stages = {"10": {"loss_speech": 4.0, "loss_music": 3.5}, "100": {"loss_speech": 2.5, "loss_music": 1.5, **routed}}
    results = [
        result("balanced", 0, 2.0) | {"stages": control, "routing": routed_of(routed)},
        result("curriculum", 0, 2.5) | {"stages": stages, "routing": routed_of(routed)},
    ]
    for _ in range(2):
        text = write_long_tables(results, page)
    written = page.read_text()
    assert text in written and "old" not in written and "short" in written and written.endswith("-->\nafter\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    along = next(at for at, row in enumerate(rows) if row[0] == "positions")
    columns = ("loss speech", "loss music", "picked", "null, %")
    assert rows[along][1:] == [f"{name}: {column}" for name in ("curriculum", "control") for column in columns]
    assert rows[along + 2 :] == [
        ["10 %", "4.000", "3.500", "", "", "", "", "", ""],
        ["20 %", "", "", "", "", "3.000", "2.000", "", ""],
        ["100 %", "2.500", "1.500", "2.50", "12.5", "2.000", "1.000", "2.50", "12.5"],
    ]
    assert "| control: that MoE from scratch on the balanced set | 1 | 2.000 | 4.000 |" in text


def routed_of(figures: dict[str, float]) -> dict[str, float]:
    others = (
        "experts_picked_deviation",
        "load_smallest",
        "load_largest",
        "domain_distance",
        "domain_distance_by_chance",
    )
    return figures | dict.fromkeys(others, 0.5)
