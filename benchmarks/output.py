"""The files that benchmarks write on request: the result as JSON, its tables as Markdown."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--markdown", type=Path, help="write the tables there")


def write_outputs(arguments: argparse.Namespace, result: Any, text: str) -> None:
    """Write the files that the options of `add_output_options` name, folders included."""
    for file, content in ((arguments.json, json.dumps(result, indent=1)), (arguments.markdown, text)):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content.rstrip("\n") + "\n", encoding="utf-8")
