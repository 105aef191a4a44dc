"""The source of a plan: a bundle, a checkpoint, a published folder, a bare configuration, or the published model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unimoe_runtime.bundle.reader import MANIFEST, Bundle, open_bundle
from unimoe_runtime.checkpoint import published as public_format
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_tools.planning.roofline import Workload
from unimoe_tools.planning.weights import (
    ModelBytes,
    beside_bytes,
    model_bytes,
    stored_bytes,
    stored_precision,
    vision_bytes,
)

PUBLIC = "public"
"""The published UniMoE-Audio model; the package includes its configuration."""
PUBLIC_CONFIG = Path(__file__).with_name("public_config.json")
# The published model's codec, DAC at 16 kHz, which the published config.json does not describe.
_PUBLISHED_CODEC = Workload(frame_rate_hz=50.0, lookahead_frames=10)
_PUBLISHED_CODEC_BYTES = 0.3e9


@dataclass(frozen=True, kw_only=True)
class Source:
    """The planned model. `extra_bytes`: codec and vision tower. `max_steps`: of any task."""

    name: str
    model: ModelConfig
    workload: Workload
    extra_bytes: float
    max_steps: int
    bundle: Bundle | None = None

    def weights(self, precision: str) -> ModelBytes:
        """The stored weights' bytes if the bundle has this precision, else bytes computed from the configuration."""
        if self.bundle is not None and stored_precision(self.bundle) == precision:
            return stored_bytes(self.bundle)
        return model_bytes(self.model, precision, extra=self.extra_bytes)


def open_source(path: Path | str) -> Source:
    """Open a bundle, a checkpoint's or published folder, a bare config.json, or "public"; weights are not needed.

    Raises CheckpointError, BundleError or ConfigError, one line, where it is none of these.
    """
    path = Path(path)
    if str(path) == PUBLIC and not path.exists():
        return replace(open_source(PUBLIC_CONFIG), name="the published UniMoE-Audio model")
    if (path / MANIFEST).is_file():
        return _of_bundle(open_bundle(path))
    config_path = path / "config.json" if path.is_dir() else path
    if not config_path.is_file():
        raise CheckpointError(
            f"{path}: holds neither a bundle's {MANIFEST} nor a config.json; give a bundle, a folder or a config.json"
        )
    config = read_json(config_path, CheckpointError)
    try:
        if public_format.is_public_config(config):
            vision = public_format.vision_config(config)
            return Source(
                name=str(path),
                model=public_format.model_config(config),
                workload=_PUBLISHED_CODEC,
                extra_bytes=_PUBLISHED_CODEC_BYTES + (vision_bytes(vision) if vision else 0.0),
                max_steps=max(task.max_steps for task in public_format.SAMPLING.values()),
            )
        model = ModelConfig.from_dict(config["model"])
        tasks = [SamplingConfig.from_dict(values) for values in config.get("sampling", {}).values()]
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{config_path}: {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{config_path}: neither a checkpoint's configuration nor a published UniMoE-Audio one"
        ) from None
    return Source(name=str(path), model=model, workload=Workload(), extra_bytes=0.0, max_steps=_max_steps(tasks))


def _of_bundle(bundle: Bundle) -> Source:
    workload, codec = Workload(), bundle.codec
    if codec is not None:
        workload = Workload(
            frame_rate_hz=codec["sample_rate_hz"] / codec["hop_samples"],
            lookahead_frames=int(codec.get("lookahead_frames", 0)),
            min_first_frames=int(codec.get("min_first_frames", 1)),
        )
    return Source(
        name=str(bundle.path),
        model=bundle.model,
        workload=workload,
        extra_bytes=beside_bytes(bundle),
        max_steps=_max_steps(list(bundle.sampling.values())),
        bundle=bundle,
    )


def _max_steps(tasks: Sequence[SamplingConfig]) -> int:
    return max((task.max_steps for task in tasks), default=SamplingConfig().max_steps)
