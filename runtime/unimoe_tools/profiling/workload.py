"""The measured workload: requests, rows, the chunk schedule, and the number of repetitions.

B model rows · U utterances · T positions · K codebooks · P prompt codec rows
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.chunks import ChunkSchedule

# For a bundle whose front end has no examples.
_EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "speech": ("Remind me at seven forty-five.",),
    "music": ("a C major scale on the piano at 120 bpm",),
}
# One of this number of decode steps is recorded call by call: often enough for means, rarely enough to cost under 1 %.
# It is a prime, so that audio chunks of 8 or 16 frames do not always coincide with a recorded step.
RECORDED_EVERY = 5
# A language model without a front end reads this number of random tokens, and by default makes this number of steps.
_RANDOM_PROMPT_TOKENS = 64
_RANDOM_STEPS = 200
RANDOM_TASK = "random"
HOST_BACKENDS = ("onnxruntime", "numpy")
"""Backends without device memory, unless they have a provider."""


@dataclass(frozen=True, kw_only=True)
class ProfileRequest:
    """One utterance to make. The task "random" is for bundles without a front end."""

    task: str
    text: str = ""
    voice: str = ""
    voice_text: str = ""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of a sweep, measured in a separate process.

    `threads` and `providers` None: the backend's own. `target`: the target of the tensorrt backend's engines. `rows`:
    model rows of a step; a guided utterance has two. `steps` forces this number of decode steps; None lets the model
    end. `chunk_frames`: frames of each chunk of audio, the last size repeated. `memory_budget_bytes`: the limit of
    loaded experts; None: no limit. `every`: one of this number of decode steps is recorded call by call. `kernels`
    turns the backend's own profiler on: it is slower, serves only the detail, and records every step.
    """

    bundle: str
    requests: tuple[ProfileRequest, ...]
    threads: int | None = None
    rows: int = 2
    steps: int | None = None
    chunk_frames: tuple[int, ...] = ChunkSchedule().frames
    backend: str = "onnxruntime"
    target: str | None = None
    providers: tuple[str, ...] | None = None
    memory_budget_bytes: int | None = None
    every: int = RECORDED_EVERY
    kernels: bool = False

    def __post_init__(self) -> None:
        if not self.requests:
            raise ConfigError("there is nothing to run: give at least one task or text")
        self.chunk_sizes()
        for name in ("threads", "rows", "steps", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")

    def chunk_sizes(self) -> Iterator[int]:
        """Frames of each chunk; an endless iterator."""
        return ChunkSchedule(frames=self.chunk_frames).sizes()

    def to_dict(self) -> dict[str, Any]:
        """The setting as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A setting from the JSON of `to_dict`."""
        requests = tuple(ProfileRequest(**request) for request in values["requests"])
        providers = values["providers"]
        return cls(
            **{
                **values,
                "requests": requests,
                "chunk_frames": tuple(values["chunk_frames"]),
                "providers": None if providers is None else tuple(providers),
            }
        )


def make_requests(
    bundle: Bundle,
    *,
    tasks: tuple[str, ...] = (),
    texts: tuple[str, ...] = (),
    voice: str = "",
    voice_text: str = "",
    seed: int = 0,
) -> tuple[ProfileRequest, ...]:
    """Requests of these tasks, by default of all the bundle's tasks; without texts, the bundle's own examples.

    `voice` applies to speech, and to all tasks with texts. Raises ConfigError for a task that the bundle lacks, and for
    texts without exactly one task.
    """
    if bundle.frontend_dir is None:
        if tasks or texts or voice:
            raise ConfigError(
                f"{bundle.path}: has no front end, so it is profiled on random text; name no task or text"
            )
        return (ProfileRequest(task=RANDOM_TASK, seed=seed),)
    unknown = [task for task in tasks if task not in bundle.sampling]
    if unknown:
        known = ", ".join(sorted(bundle.sampling))
        raise ConfigError(f"{bundle.path}: has no task {unknown[0]!r}; it knows {known}")
    if texts:
        if len(tasks) != 1:
            raise ConfigError("texts belong to a task: give one task with them")
        return tuple(
            ProfileRequest(task=tasks[0], text=text, voice=voice, voice_text=voice_text, seed=seed) for text in texts
        )
    examples = _examples(bundle)
    return tuple(
        ProfileRequest(
            task=task, text=text, seed=seed, **({"voice": voice, "voice_text": voice_text} if spoken else {})
        )
        for task in tasks or sorted(bundle.sampling, reverse=True)
        for spoken in (task == "speech",)
        for text in examples.get(task, ())
    )


def _examples(bundle: Bundle) -> Mapping[str, tuple[str, ...]]:
    """Texts by task: from "examples" in the front end's file, else our own."""
    assert bundle.frontend_dir is not None
    settings = read_json(bundle.checked("frontend/frontend.json"), BundleError)
    return {**_EXAMPLES, **{task: tuple(texts) for task, texts in settings.get("examples", {}).items()}}


def random_prompt(config: ModelConfig, num_rows: int, seed: int) -> Prompt:
    """Rows of random text ids, in pairs where their number is even."""
    ids_BT = np.random.default_rng(seed).integers(config.text_vocab_size, size=(num_rows, _RANDOM_PROMPT_TOKENS))
    return Prompt.from_rows(list(ids_BT), paired=num_rows % 2 == 0)


def batched(prompt: Prompt, num_rows: int) -> Prompt:
    """The prompt of one utterance as a batch of equal utterances, `num_rows` rows in all.

    Raises ConfigError where the rows are not a whole number of utterances.
    """
    copies, rest = divmod(num_rows, prompt.num_rows)
    if rest or not copies:
        raise ConfigError(f"rows is {num_rows}; this prompt takes {prompt.num_rows} rows an utterance, or a multiple")
    codec, video = prompt.codec_ids_PK, prompt.video_embeddings_VC
    return replace(
        prompt,
        text_ids_BT=np.tile(prompt.text_ids_BT, (copies, 1)),
        mask_BT=np.tile(prompt.mask_BT, (copies, 1)),
        positions=np.tile(prompt.positions, (copies, 1)),
        first_position_B=np.tile(prompt.first_position_B, copies),
        codec_ids_PK=None if codec is None else np.tile(codec, (copies, 1)),
        video_embeddings_VC=None if video is None else np.tile(video, (copies, 1)),
    )


def forced(sampling: SamplingConfig, steps: int, config: ModelConfig) -> SamplingConfig:
    """`sampling` without the model's own end: generation makes exactly this number of decode steps.

    Raises ConfigError where no frame would be complete after these steps.
    """
    if steps <= max(config.delay_pattern):
        raise ConfigError(f"steps is {steps}; a frame takes {max(config.delay_pattern) + 1} with this delay pattern")
    # The public limit includes the row of BOS.
    return replace(sampling, min_steps=steps + 1, max_steps=steps + 1)


def random_sampling(paired: bool, config: ModelConfig) -> SamplingConfig:
    """Sampling for a bundle without a front end, guided where rows are pairs."""
    return forced(SamplingConfig(guidance_scale=1.0 if paired else 0.0), _RANDOM_STEPS, config)
