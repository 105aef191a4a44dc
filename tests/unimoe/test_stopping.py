"""Signals take effect between steps, and the stopped work reports its progress."""

from __future__ import annotations

import os
import signal

import pytest

from unimoe.stopping import Stopped, kept_when_stopped, stop_between_steps


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_for_the_end_of_the_step(number: int) -> None:
    before = signal.getsignal(number)
    steps = 0
    with stop_between_steps() as stop:
        while steps < 5 and not stop:
            os.kill(os.getpid(), number)
            steps += 1
    assert steps == 1 and signal.getsignal(number) is before
    with pytest.raises(Stopped) as caught:
        stop.end("saved at step 1")
    assert (caught.value.number, caught.value.where) == (number, "saved at step 1")


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signal twice within a moment counts as one: so `timeout` sends it."""
    with stop_between_steps() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
    assert stop.number == signal.SIGTERM
    monkeypatch.setattr("unimoe.stopping._AGAIN_S", 0.0)
    with pytest.raises(Stopped, match="at once"), stop_between_steps():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_kept_is_said() -> None:
    with pytest.raises(Stopped, match="3 parts") as caught, kept_when_stopped(lambda: "3 parts are kept"):
        raise KeyboardInterrupt
    assert caught.value.number == signal.SIGINT
