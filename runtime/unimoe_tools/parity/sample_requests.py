"""A few standard requests to any bundle, for verification and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.frontend import FrontEnd, VoicePrompt, open_frontend
from unimoe_runtime.model.delay_pattern import delay_codes
from unimoe_runtime.model.generation import Prompt

TEXTS = {
    "speech": ("one two three four", "call anna tomorrow", "eight zero five nine two", "turn off the kitchen light"),
    "music": ("C4 E4 G4 C5", "G4 F4 E4 D4 C4", "A4 C5 E5 A4 D4", "E4 E4 F4 G4 G4 F4"),
}
_VOICE_FRAMES = 25
_FEWEST_FRAMES = 25
_BARE_PROMPTS, _BARE_TOKENS = 4, 12


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleRequest:
    """A prompt with the sampling of its answer."""

    task: str
    prompt: Prompt
    sampling: SamplingConfig


def standard_requests(bundle: Bundle) -> list[SampleRequest]:
    """Texts of every task in the bundle's own voices and instruments; random ids for a bundle without a front end.

    The sampling is the bundle's, limited to the expected length.
    """
    frontend_dir = bundle.checked_frontend()
    return list(_bare(bundle.model) if frontend_dir is None else _asked(bundle, open_frontend(frontend_dir)))


def limit_steps(request: SampleRequest, num_steps: int, config: ModelConfig) -> SamplingConfig:
    """The request's sampling, limited to `num_steps` at most and to some frames at least."""
    longest = min(request.sampling.max_steps, num_steps + max(config.delay_pattern) + 1)
    fewest = max(request.sampling.min_steps, _FEWEST_FRAMES)
    return replace(request.sampling, min_steps=min(fewest, num_steps), max_steps=longest)


def _bare(config: ModelConfig) -> Iterator[SampleRequest]:
    for seed in range(_BARE_PROMPTS):
        rows = np.random.default_rng(seed).integers(config.text_vocab_size, size=(2, _BARE_TOKENS))
        yield SampleRequest(task="", prompt=Prompt.from_rows(list(rows), paired=True), sampling=SamplingConfig())


def _asked(bundle: Bundle, frontend: FrontEnd) -> Iterator[SampleRequest]:
    for task in frontend.tasks:
        names = frontend.voices if task == "speech" else frontend.instruments
        clones = task == "speech" and frontend.max_voice_s > 0
        for index, text in enumerate(TEXTS[task]):
            prepared = frontend.build_prompt(
                task,
                text,
                names[index % len(names)] if names and not clones else "",
                voice_prompt=_random_voice(bundle.model) if clones else None,
            )
            sampling = prepared.limit(bundle.sampling.get(task, SamplingConfig()), max(bundle.model.delay_pattern))
            yield SampleRequest(task=task, prompt=prepared.prompt, sampling=sampling)


def _random_voice(config: ModelConfig) -> VoicePrompt:
    """The voice prompt of a cloning model: seeded codes, so that the places of codec rows are covered as well."""
    codes_TK = np.random.default_rng(0).integers(config.codebook_size, size=(_VOICE_FRAMES, config.num_codebooks))
    return VoicePrompt(codec_rows_RK=delay_codes(codes_TK, config), text=TEXTS["speech"][0])
