"""The settings of profiling tests."""

from __future__ import annotations

from pathlib import Path

from unimoe_tools.profiling.workload import ProfileRequest, Setting


def setting(bundle: Path, **changes: object) -> Setting:
    """One random request of 20 steps on one thread, with some fields changed."""
    fields: dict[str, object] = {"requests": (ProfileRequest(task="random"),), "steps": 20, "threads": 1}
    return Setting(bundle=str(bundle), **{**fields, **changes})  # type: ignore[arg-type]
