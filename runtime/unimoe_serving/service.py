"""The part that all protocols share: a caller's request becomes a stream with a slot, and its end is counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unimoe_runtime import AudioError, Limits, SynthesisRequest, UnimoeError, Video
from unimoe_serving.admission import Admission
from unimoe_serving.config import ServerConfig
from unimoe_serving.encoders import AudioFormat
from unimoe_serving.errors import RequestError, as_request_error
from unimoe_serving.fields import Fields
from unimoe_serving.live_stream import LiveStream
from unimoe_serving.metrics import Ending, Metrics
from unimoe_serving.model_metrics import ModelMetrics
from unimoe_serving.models import ModelRegistry, ServedModel
from unimoe_serving.uploads import Uploads
from unimoe_serving.voices import VoiceStore

logger = logging.getLogger("unimoe.serving")

_SAMPLING = {
    "temperature": (0.0, 10.0), "top_p": (1e-6, 1.0), "guidance_scale": (0.0, 20.0), "eos_factor": (0.0, 100.0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
    """A checked request: what to synthesize, with which bundle, in which format. `arrived`: a `perf_counter` time."""

    model: ServedModel
    request: SynthesisRequest
    audio: AudioFormat
    watch_routing: bool = False
    arrived: float = field(default_factory=time.perf_counter)


class Service:
    """One server's bundles, voices, slots and metrics. Lives in one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self.config, self.limits = config, config.limits
        self.models = ModelRegistry(config.bundles)
        self.voices = VoiceStore(config.voices_dir, most=config.limits.max_voices)
        self.admission = Admission(config.limits)
        self.metrics = Metrics()
        self.metrics.registry.register(ModelMetrics(self.models))
        self._executor = ThreadPoolExecutor(config.limits.max_streams + 1, "stream")
        self.uploads = Uploads()
        self._answers: set[asyncio.Future[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        self.load_error: UnimoeError | None = None
        self.metrics.watch("queue_waiting", "Requests that wait for a slot.", lambda: self.admission.waiting)
        self.metrics.watch("slots_taken", "Slots that are held.", lambda: self.admission.active)
        self.metrics.watch("ready", "1 once every bundle is loaded and warm.", lambda: float(self.ready))

    @property
    def ready(self) -> bool:
        """Whether every bundle is loaded and new streams are accepted."""
        return self.models.ready and not self.admission.draining

    def start_loading(self) -> asyncio.Task[None]:
        """Load the bundles in a thread; `load_error` holds the error of one that cannot be loaded."""
        self._loading = asyncio.create_task(self._load())
        return self._loading

    async def loaded(self) -> None:
        """Return when every bundle is loaded and warm. Raises UnimoeError if one cannot be loaded."""
        if self._loading is not None:
            await asyncio.wait([self._loading])
        if self.load_error is not None:
            raise self.load_error

    async def close(self) -> None:
        """Wait for bundles that are still loading, then free everything."""
        if self._loading is not None:
            await asyncio.wait([self._loading])
        self._executor.shutdown()
        self.uploads.close()
        self.models.close()

    @contextmanager
    def answering(self, end: asyncio.Future[None]) -> Iterator[None]:
        """While a request is answered; `cut_off` cancels `end`."""
        self._answers.add(end)
        try:
            yield
        finally:
            self._answers.discard(end)

    def cut_off(self) -> None:
        """End all answers: what is queued is refused, and what is spoken breaks off."""
        for end in list(self._answers):
            end.cancel()

    def find_model(self, fields: Fields) -> ServedModel:
        """The bundle that the fields name. Raises RequestError 404."""
        return self.models.find(fields.text("model", "", most=100))

    def read_request(
        self, fields: Fields, model: ServedModel, task: str, *, text: str = "", video: Video | None = None
    ) -> SynthesisRequest:
        """The synthesis request in the fields; `text` if it does not come with them. Raises RequestError."""
        synthesizer = model.synthesizer
        if task not in synthesizer.frontend.tasks:
            raise RequestError(f"{model.name} has no {task}", param="model", code="no_such_task")
        if not text:
            text = fields.text("input", "" if video is not None else None, most=self.limits.max_text_characters)
        voice, voice_text = self._voice(fields.voice(), task, model)
        max_s = fields.number("max_seconds", 0.02, 3600.0)
        sampling: dict[str, Any] = {name: fields.number(name, least, most) for name, (least, most) in _SAMPLING.items()}
        sampling["top_k"] = fields.integer("top_k", 1, 1 << 16)
        sampling = {name: value for name, value in sampling.items() if value is not None}
        return SynthesisRequest(
            text=text, task=task, voice=voice, voice_text=voice_text, video=video,
            seed=fields.integer("seed", 0, (1 << 63) - 1, 0) or 0,
            sampling=replace(synthesizer.sampling(task), **sampling) if sampling else None,
            limits=None if max_s is None else Limits(max_s=max_s),
            timeout_s=self.limits.stream_s,
            speed=fields.number("speed", 0.25, 4.0, 1.0) or 1.0,
            lexicon=fields.texts("lexicon"),
        )  # fmt: skip

    @asynccontextmanager
    async def stream(self, job: Job, *, accepted: bool = False) -> AsyncIterator[LiveStream]:
        """A stream with a slot. Leaving the block frees its rows at the next step, even if the stream has not ended.

        `accepted`: it belongs to a text that was accepted before. Raises RequestError if there is no slot
        (`Admission.slot`).
        """
        task, name = job.request.task, job.model.name
        async with self.admission.slot(accepted=accepted):
            live = LiveStream(
                job.model.synthesizer, job.request, job.audio, self._executor,
                arrived=job.arrived, watch_routing=job.watch_routing,
            )  # fmt: skip
            self.metrics.started(name, task)
            ending: Ending = "failed"
            try:
                yield live
                ending = "complete"
            except (asyncio.CancelledError, ConnectionError, TimeoutError):
                ending = "cancelled"
                raise
            except AudioError as error:
                raise self._unreadable(job, error) from None
            finally:
                # In its own task, so that the slot is released only after the rows are free, even if this task is
                # cancelled again.
                await _complete(self._finish(live, name, task, ending))

    def _voice(self, voice: str, task: str, model: ServedModel) -> tuple[str, str]:
        """A voice's name, or the recording and the words of a stored voice. Raises RequestError for any other."""
        frontend, speaks = model.synthesizer.frontend, task == "speech"
        known = list(frontend.voices if speaks else frontend.instruments)
        if voice in known:
            return voice, ""
        if speaks:
            if (stored := self.voices.find(voice, model.name)) is not None:
                return str(stored.recording), stored.voice.text
            known += [own.name for own in self.voices if own.model == model.name]
        if voice:
            raise RequestError(
                f"there is no {'voice' if speaks else 'instrument'} {voice!r}; it can be "
                f"{', '.join(known) or 'left out'}",
                param="voice", code="voice_not_found",
            )  # fmt: skip
        if speaks and model.clones:  # such a model has no default voice
            stored_one = f"one of {', '.join(known)}" if known else "one that POST /v1/audio/voices stored"
            raise RequestError(f"{model.name} needs a voice: give {stored_one}", param="voice", code="missing_field")
        return "", ""

    def _unreadable(self, job: Job, error: AudioError) -> RequestError:
        """The error where a stored voice cannot be read. The caller does not hear the path of its recording."""
        if self.voices.find(Path(job.request.voice).parent.name, job.model.name) is None:
            return RequestError("the voice was deleted", status=404, code="voice_not_found", param="voice")
        logger.error("%s", error)
        return RequestError(
            "the voice's recording cannot be read: delete the voice, and store it again",
            status=500, code="voice_unreadable", param="voice",
        )  # fmt: skip

    async def _finish(self, live: LiveStream, name: str, task: str, ending: Ending) -> None:
        await live.aclose()
        if ending == "complete" and live.outcome is not None and not live.outcome.ended:
            ending = "cut"
        self.metrics.ended(name, task, ending, live.playback, live.outcome)

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        for model in self.models:
            try:
                await loop.run_in_executor(self._executor, model.load)
            except UnimoeError as error:
                self.load_error = error
                return
            logger.info("%s is ready", model.name)


async def _complete(work: Any) -> None:
    """Await to the end, even if the caller is cancelled."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def refusal(error: Exception, metrics: Metrics) -> RequestError:
    """`as_request_error`, counted in the metrics."""
    refused = as_request_error(error)
    metrics.refused(refused.code or str(refused.status))
    return refused
