"""Compares a bundle with the torch model of its checkpoint: graph by graph, then end to end.

torch is imported only during a comparison, so that other comparisons need no torch.
"""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.engine_verification import Agreement
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BackendError, CheckpointError
from unimoe_runtime.install import install_command
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.graphs import GraphComparison, compare_graphs, compare_models


def compare_with_checkpoint(
    candidate: Backend, checkpoint_dir: Path | str, prompt: Prompt, sampling: SamplingConfig, *, steps: int
) -> tuple[list[GraphComparison], Agreement]:
    """Every language-model graph against the torch modules that it represents, then `steps` decode steps of both.

    Raises CheckpointError where the checkpoint is of another model, BackendError where torch is not installed.
    """
    checkpoint = open_checkpoint(checkpoint_dir)
    config = candidate.bundle.model
    if checkpoint.model != config:
        raise CheckpointError(
            f"{checkpoint.path}: its configuration is not that of {candidate.bundle.path}; "
            "compare with the checkpoint that the bundle was exported from"
        )
    try:
        from unimoe.checkpoint import load_model
        from unimoe.parity.torch_backend import ObservedModel, TorchBackend
        from unimoe.vision import load_vision
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendError(f"comparing with a checkpoint needs torch: `{install_command('train')}`") from None
    model = load_model(checkpoint)
    vision = load_vision(checkpoint) if checkpoint.vision is not None else None
    graphs = compare_graphs(candidate, TorchBackend(candidate.bundle, model, vision), prompt)
    agreement = compare_models(
        lambda observer: BundleModel(candidate, observer=observer),
        lambda observer: ObservedModel(model, observer),
        prompt,
        config,
        sampling,
        steps=steps,
    )
    return graphs, agreement
