"""A small campaign: every case is refused in one line, gives the valid input's audio, or gives the requested audio."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.robustness.bases import MUSIC
from tests.robustness.campaign import Campaign
from tests.robustness.kills import Killer, writer_named

_SETTINGS = settings(
    derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    campaign = Campaign(work=tmp_path_factory.mktemp("robustness"))
    yield campaign
    campaign.worker.close()


@pytest.fixture(scope="module")
def killer(campaign: Campaign) -> Iterator[Killer]:
    killer = Killer(bases=campaign.bases, work=campaign.work)
    yield killer
    killer.close()


@pytest.mark.slow
@settings(_SETTINGS, max_examples=60)
@given(seed=st.integers(0, (1 << 40) - 1))
def test_damage_is_refused_or_does_no_harm(campaign: Campaign, seed: int) -> None:
    outcome = campaign.run(seed)
    assert outcome.kind != "other", f"{outcome.case.format}: {outcome.case.what}: {outcome.reason}\n{outcome.said}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("export", signal.SIGKILL),
        ("synth --stream", signal.SIGTERM),
        ("synth --stream", signal.SIGHUP),
        ("unpack", signal.SIGKILL),
        ("data gather", signal.SIGKILL),
        ("data render", signal.SIGINT),
        ("data import", signal.SIGKILL),
        ("data lexicon", signal.SIGTERM),
        ("eval", signal.SIGKILL),
        ("train, the model", signal.SIGKILL),
    ],
)
def test_a_killed_writer_leaves_nothing_half(killer: Killer, name: str, number: int) -> None:
    assert killer.kill(writer_named(name), random.Random(number), number) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data gather", "data import", "data join", "data lexicon", "data report"])
def test_a_full_disk_is_one_line(killer: Killer, name: str) -> None:
    assert killer.fill(writer_named(name), random.Random(name)) == ""


@pytest.mark.slow
def test_no_telemetry_no_litter_and_any_locale(campaign: Campaign, tmp_path: Path) -> None:
    """With a fresh HOME, in an ASCII locale, with stdout closed: the audio is written, and HOME stays empty."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "LC_", "ORT_"))}
    environment = {
        **kept,
        "HOME": str(home),
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
    }
    command = [sys.executable, "-m", "unimoe.cli", "synth", str(campaign.bases.bundle), *MUSIC]
    out = tmp_path / "ünï.wav"
    with open(os.devnull) as closed:
        done = subprocess.run(
            [*command, "-o", str(out)], env=environment, stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert "Traceback" not in done.stderr
    assert out.stat().st_size > 1000 and list(home.iterdir()) == []


@pytest.mark.slow
def test_an_exception_and_a_fork_while_the_bundle_loads(campaign: Campaign) -> None:
    program = f"""
import os, sys
from unimoe_runtime import Synthesizer, SynthesisRequest, UnimoeError
synthesizer = Synthesizer.open({str(campaign.bases.bundle)!r})
child = os.fork()
if not child:
    try:
        synthesizer.synthesize(SynthesisRequest(text="Hello."))
    except UnimoeError as error:
        os._exit(7 if "forked" in str(error) else 8)
    os._exit(9)
print(os.waitpid(child, 0)[1] >> 8)
raise KeyError("mine")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (1, "7") and done.stderr.strip().endswith("KeyError: 'mine'")
