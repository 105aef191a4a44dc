"""The loss in answers and the saving in bytes of each scheme of `unimoe calibrate`, on one bundle.

python -m benchmarks.quantization_schemes BUNDLE [--markdown FILE]

The script calibrates each scheme into a temporary folder on the bundle's own calibration set. All results read the
float bundle's own answers to the standard requests, none of which is calibration data.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.decode_step import machine
from benchmarks.markdown import machine_line
from benchmarks.quantization_peers import questions
from unimoe_calibration.calibration import calibrate
from unimoe_calibration.settings import Settings
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_tools.parity.bundles import language_model_bytes
from unimoe_tools.parity.teacher_forced import TeacherForcedOutput, diverge, read_forced

SCHEMES = {
    "`w8a8`": Settings(),
    "`w8a8`, `--method max`: static ranges": Settings(method="max"),
    "`fp8`, for a GPU": Settings(target="l4", scheme="fp8"),
    "`w8`, for a CPU": Settings(scheme="w8"),
    "`w8`, for TensorRT": Settings(target="l4", scheme="w8"),
    "`w4`, for a CPU": Settings(scheme="w4"),
}
_COLUMNS = ("logit error", "KL, nats", "equal picks", "equal sets of picks", "likeliest code equal", "bytes")


def rows(folder: Path) -> list[list[str]]:
    """A row of the table for each scheme."""
    bundle = open_bundle(folder)
    backend = open_backend("onnxruntime", bundle)
    items = questions(bundle, backend)

    def answers(path: Path) -> list[TeacherForcedOutput]:
        opened = open_backend("onnxruntime", open_bundle(path))
        read = [read_forced(opened, item) for item in items]
        opened.close()
        return read

    reference = answers(folder)
    made = []
    with tempfile.TemporaryDirectory() as work:
        for index, (name, settings) in enumerate(SCHEMES.items()):
            out = Path(work) / str(index)
            calibrate(folder, out, replace(settings, cache_dir=Path(work) / "cache"))
            found = diverge(reference, answers(out))
            size = language_model_bytes(open_bundle(out)) / language_model_bytes(bundle)
            made.append([
                name, f"{found.logit_error:.1%}", f"{found.kl_nats:.3f}", f"{found.router_agreement:.2%}",
                f"{found.equal_sets:.1%}", f"{found.token_agreement:.1%}", f"{size:.3f}",
            ])  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--markdown", type=Path, help="Write the table to this file.")
    arguments = parser.parse_args()
    lines = [f"| scheme | {' | '.join(_COLUMNS)} |", "| --- " * (len(_COLUMNS) + 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(arguments.bundle)]
    about = machine_line({key: value for key, value in machine().items() if key in ("cpu", "onnxruntime", "date")})
    text = "\n".join([about, "", *lines]) + "\n"
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
