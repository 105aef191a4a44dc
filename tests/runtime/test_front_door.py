"""The names of `import unimoe_runtime`, and its cost."""

from __future__ import annotations

import subprocess
import sys

import unimoe_runtime

_PROBE = """
import sys, time
began = time.process_time()
import unimoe_runtime
took_s = time.process_time() - began
print(took_s, *[name for name in sys.modules if name.partition(".")[0] in ("numpy", "torch", "unimoe_tools")])
from unimoe_runtime import Synthesizer
print(*[name for name in sys.modules if name.partition(".")[0] in ("torch", "unimoe_tools", "unimoe", "rich")])
"""


def test_importing_is_quick_and_loads_nothing_of_the_tools() -> None:
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True)
    first, second = probe.stdout.splitlines()
    took_s, *loaded = first.split()
    assert float(took_s) < 0.2 and not loaded
    assert second == ""


def test_every_name_is_there() -> None:
    for name in unimoe_runtime.__all__:
        assert getattr(unimoe_runtime, name) is not None, name
    assert set(unimoe_runtime.__all__) <= set(dir(unimoe_runtime))
    assert not hasattr(unimoe_runtime, "Synthesiser")
