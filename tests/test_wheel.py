"""The wheel works without a checkout: installed into a fresh environment, `unimoe synth demo` speaks."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from unimoe_runtime.audio.files import read_audio

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(out), str(ROOT)], check=True)
    (path,) = out.glob("*.whl")
    return path


def test_it_holds_packages_data_and_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    packages = {"unimoe", "unimoe_runtime", "unimoe_tools", "unimoe_export", "unimoe_calibration"}
    assert packages <= tops and not tops & {"tests", "benchmarks", "runtime", "export", "calibration"}
    for name in (
        "unimoe_runtime/hardware/targets.toml",
        "unimoe_runtime/py.typed",
        "unimoe/checkpoints/demo/config.json",
        "unimoe/checkpoints/voices/config.json",
    ):
        assert name in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_demo_speaks_without_a_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "venv" / "lib" / version / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # after the wheel's own packages
    zipfile.ZipFile(wheel).extractall(site)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = [python, "-c", "from unimoe.cli import main; main()", "synth", "demo", "--text", "hello", "-o", "hello.wav"]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / ".cache" / "unimoe" / "bundles") in done.stderr
    pcm_L = read_audio(tmp_path / "hello.wav", 16_000)
    assert len(pcm_L) > 1600 and float(abs(pcm_L).max()) > 0.05
