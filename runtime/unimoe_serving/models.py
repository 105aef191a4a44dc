"""The served bundles by name: each is opened and warmed up in the background, then ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from unimoe_runtime import Limits, PromptError, SynthesisRequest, Synthesizer
from unimoe_serving.config import BundleSource
from unimoe_serving.errors import RequestError
from unimoe_tools.bundles.abilities import Abilities, read_abilities

logger = logging.getLogger("unimoe.serving")

# Input that every front end can speak or play; the warm-up makes a fraction of a second of it.
_WARM_UP = {"speech": "one two three", "music": "C4 E4 G4"}
_WARM_UP_S = 0.3


@dataclass(frozen=True, kw_only=True)
class VoiceInfo:
    """A voice or an instrument of a bundle."""

    name: str
    task: str
    description: str


@dataclass(kw_only=True)
class ServedModel:
    """One bundle. `synthesizer` is available once it is ready."""

    source: BundleSource
    created: int = field(default_factory=lambda: int(time.time()))
    _synthesizer: Synthesizer | None = None
    _abilities: Abilities | None = None

    @property
    def name(self) -> str:
        """Its name in requests."""
        return self.source.name

    @property
    def ready(self) -> bool:
        """Whether it is loaded and warm."""
        return self._synthesizer is not None

    @property
    def synthesizer(self) -> Synthesizer:
        """The loaded bundle. Raises RequestError 503 while it is being loaded."""
        if self._synthesizer is None:
            raise self._not_ready()
        return self._synthesizer

    @property
    def abilities(self) -> Abilities:
        """What it can speak and play. Raises RequestError 503 while the bundle is being loaded."""
        if self._abilities is None:
            raise self._not_ready()
        return self._abilities

    @property
    def clones(self) -> bool:
        """Whether it speaks in the voice of a recording."""
        return self.synthesizer.frontend.max_voice_s > 0

    @property
    def takes_video(self) -> bool:
        """Whether it makes music for a video."""
        return self.synthesizer.frontend.takes_video and self.synthesizer.bundle.vision is not None

    @property
    def language(self) -> str:
        """Code of the language that it speaks; English for a model that reads text by itself."""
        return str(getattr(self.synthesizer.frontend, "language", "en"))

    @property
    def abbreviations(self) -> tuple[str, ...]:
        """Abbreviations, whose full stop does not end a sentence."""
        speech = getattr(self.synthesizer.frontend, "speech", None)
        return () if speech is None else speech.short_forms

    def load(self) -> None:
        """Open the bundle, load every graph, and let each task make a little audio. Raises UnimoeError."""
        source = self.source
        synthesizer = Synthesizer.open(
            source.path,
            backend=source.backend,
            threads=source.threads,
            memory_budget_bytes=source.memory_budget_bytes,
            warm=True,
        )
        for task in synthesizer.frontend.tasks:
            request = SynthesisRequest(
                text=_WARM_UP.get(task, _WARM_UP["speech"]), task=task, limits=Limits(max_s=_WARM_UP_S)
            )
            try:
                synthesizer.synthesize(request)
            except PromptError as error:
                logger.info("no warm-up of %s in %s: %s", task, self.name, error)
        if synthesizer.engine_warning is not None:
            logger.warning("%s", synthesizer.engine_warning)
        self._abilities = read_abilities(synthesizer.bundle)
        self._synthesizer = synthesizer

    def close(self) -> None:
        """Free everything it loaded."""
        if self._synthesizer is not None:
            self._synthesizer.close()

    def voices(self) -> Iterator[VoiceInfo]:
        """Voices, then instruments, of the bundle itself; the default ones come first."""
        for task, named in (("speech", self.abilities.voices), ("music", self.abilities.instruments)):
            for name, description in named.items():
                yield VoiceInfo(name=name, task=task, description=description)

    def card(self) -> dict[str, Any]:
        """Its entry in `/v1/models`, with the fields that the page needs."""
        synthesizer = self.synthesizer
        frontend, config = synthesizer.frontend, synthesizer.bundle.model
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "unimoe",
            "tasks": list(frontend.tasks),
            "clones": self.clones,
            "takes_video": self.takes_video,
            "sample_rate_hz": synthesizer.sample_rate_hz,
            "languages": self.abilities.languages,
            "examples": self.abilities.examples,
            "layers": config.num_layers,
            "routed_experts": config.num_routed_experts,
            "null_experts": config.num_null_experts,
        }

    def _not_ready(self) -> RequestError:
        return RequestError(
            f"the bundle {self.name!r} is still being loaded", status=503, code="not_ready", retry_after_s=2
        )


class ModelRegistry:
    """The bundles of one server; the first is the default."""

    def __init__(self, sources: Sequence[BundleSource]) -> None:
        self._models = {source.name: ServedModel(source=source) for source in sources}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    @property
    def ready(self) -> bool:
        """Whether all are loaded and warm."""
        return all(model.ready for model in self)

    def find(self, name: str) -> ServedModel:
        """A bundle by its name; an empty name means the first one. Raises RequestError 404."""
        model = self._models.get(name) if name else next(iter(self))
        if model is None:
            known = ", ".join(self._models)
            raise RequestError(
                f"there is no model {name[:100]!r}; it can be {known}",
                status=404, code="model_not_found", param="model",
            )  # fmt: skip
        return model

    def close(self) -> None:
        """Free everything that the bundles loaded."""
        for model in self:
            model.close()
