"""What a front end hands to the generation loop, and the surface that every kind of front end has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from ..config import SamplingConfig
from ..generation import Prompt

_SHORTEST, _LONGEST = 0.7, 1.4


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedPrompt:
    """A prompt, and what is known of its result beforehand.

    `expected_frames` is the number of codec frames that the audio will have, about; None where unknown.
    `caption` is the prompt as it was understood, to be shown.
    """

    prompt: Prompt
    expected_frames: int | None
    caption: str

    def limit(self, sampling: SamplingConfig, max_delay: int) -> SamplingConfig:
        """`sampling` with `min_steps` and `max_steps` set around the expected length, where that is known."""
        if self.expected_frames is None:
            return sampling
        return replace(
            sampling,
            min_steps=round(_SHORTEST * self.expected_frames),
            max_steps=round(_LONGEST * self.expected_frames) + max_delay + 1,
        )


class FrontEnd(Protocol):
    """Turns a task's text into a prompt."""

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def voices(self) -> tuple[str, ...]: ...

    @property
    def instruments(self) -> tuple[str, ...]: ...

    def build_prompt(self, task: str, text: str, voice: str = "") -> PreparedPrompt:
        """Raises PromptError, one line, for whatever the model cannot say or play."""
        ...
