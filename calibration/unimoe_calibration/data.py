"""Calibration data: what the model reads while the calibration observes its inputs.

Each item is a text and its audio: a recording, codes or, where there is neither, the bundle's own synthesis of the
text.

F frames · K codebooks
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.audio.files import READABLE, read_audio, require_sound
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS, Bundle
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import CalibrationError, ConfigError, PromptError, UnimoeError
from unimoe_runtime.files.hashes import sha256_of
from unimoe_runtime.files.json import parse_json
from unimoe_runtime.files.text import read_lines, read_text
from unimoe_runtime.frontend import PreparedPrompt
from unimoe_runtime.model.generation import Prompt, collect_frames, generate
from unimoe_runtime.model.teacher_forcing import forced_prompt
from unimoe_runtime.records import Between, JsonRecord, Length, check_value
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

MAX_FRAMES = 1024
"""Longer recordings are cut to this length: attention's memory grows with the square of the length."""
_FRAMES_AROUND = 32  # more frames than any codec looks ahead
RANDOM_IDS = "random ids"
"""Domain of the random ids that calibrate a bundle without a front end."""

_RANDOM_ITEMS, _RANDOM_LENGTH, _RANDOM_STEPS = 32, 12, 96


@dataclass(frozen=True, kw_only=True)
class Item:
    """One text and its audio. `name` says where it comes from; `number` counts the items of a set.

    `audio` is a file, `codes` are frames of one code a codebook; without either the bundle synthesizes the text. `task`
    is the domain that coverage counts the item under.
    """

    name: str
    number: int
    task: str
    text: str
    voice: str = ""
    voice_text: str = ""
    audio: Path | None = None
    codes: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class CalibrationData:
    """The items of a set, their source, and a SHA-256 over texts and audio."""

    items: tuple[Item, ...]
    source: str
    sha256: str

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(sorted({item.task for item in self.items}))

    def drawn(self, seed: int) -> list[Item]:
        """The items in drawing order: shuffled within each domain, the domains alternating."""
        rng = np.random.default_rng(seed)
        queues = [[item for item in self.items if item.task == domain] for domain in self.domains]
        order = []
        for place, queue in enumerate(queues):
            for rank, index in enumerate(rng.permutation(len(queue))):
                order.append(((rank + 0.5) / len(queue), place, queue[index]))
        return [item for _, _, item in sorted(order, key=lambda entry: entry[:2])]


def read_data(source: Path | None, bundle: Bundle) -> CalibrationData:
    """The items of a JSON-lines file, of a folder or, where `source` is None, of the bundle's own set.

    A line is {"task", "text", "voice"?, "voice_text"?, "audio"? | "codes"?}; a file's path is relative to the
    list's folder. A folder holds recordings, each with its words in a text file of the same name, in one subfolder for
    each task (speech, music); without subfolders all are speech. A bundle without a front end gets random ids as texts.
    Raises CalibrationError, one line, where there is no usable data.
    """
    own = source is None
    if source is None:
        source = _own_prompts(bundle)
    if source is None:
        items = [Item(name=f"random prompt {n}", number=n, task=RANDOM_IDS, text="") for n in range(_RANDOM_ITEMS)]
        return CalibrationData(items=tuple(items), source=RANDOM_IDS, sha256=_hash(items))
    if bundle.frontend_dir is None:
        raise CalibrationError(f"{bundle.path}: has no front end to read texts with; calibrate it without --data")
    if source.is_dir():
        items = list(_read_folder(source))
    elif source.is_file():
        items = list(_read_lines(source, bundle, own=own))
    else:
        raise CalibrationError(f"{source}: there is no such file or folder of calibration data")
    if not items:
        words = "no recordings with a .txt beside them" if source.is_dir() else "no items"
        raise CalibrationError(f"{source}: {words}: give at least one text")
    return CalibrationData(items=tuple(items), source=source.name, sha256=_hash(items))


def _own_prompts(bundle: Bundle) -> Path | None:
    if CALIBRATION_PROMPTS in bundle.files:
        return bundle.checked(CALIBRATION_PROMPTS)
    if bundle.frontend_dir is None:
        return None
    raise CalibrationError(f"{bundle.path}: brings no {CALIBRATION_PROMPTS}; give texts or recordings with --data")


@dataclass(frozen=True, kw_only=True)
class _Line(JsonRecord):
    """A line of a list, without its codes."""

    text: str
    task: str = "speech"
    voice: str = ""
    voice_text: str = ""
    audio: Annotated[str, Length(1, 4096)] | None = None
    codes: Any = None


def _read_lines(path: Path, bundle: Bundle, *, own: bool) -> Iterator[Item]:
    for number, line in enumerate(read_lines(path, CalibrationError)):
        if not line.strip():
            continue
        where = f"{path}: line {number + 1}"
        fields = parse_json(line, where, CalibrationError)
        try:
            described = _Line.from_dict(fields)
        except ConfigError as error:
            raise CalibrationError(f"{where}: {error}") from None
        audio = None if described.audio is None else path.parent / described.audio
        if own and audio is not None:
            audio = _inside(bundle, audio, where)
        yield Item(
            name=f"{path.name} line {number + 1}",
            number=number,
            task=described.task,
            text=described.text,
            voice=described.voice,
            voice_text=described.voice_text,
            audio=audio,
            codes=None if described.codes is None else _codes(described.codes, where, bundle),
        )


def _inside(bundle: Bundle, audio: Path, where: str) -> Path:
    """A recording that a bundle's own list names: one of the bundle's files."""
    file = posixpath.normpath(audio.relative_to(bundle.path).as_posix())
    if file not in bundle.files:
        raise CalibrationError(f"{where}: {file!r} is no file of this bundle; do not use this bundle")
    return bundle.checked(file)


def _codes(codes: Any, where: str, bundle: Bundle) -> tuple[tuple[int, ...], ...]:
    model = bundle.model
    code = Annotated[int, Between(0, model.codebook_size - 1)]
    frame = Annotated[tuple[code, ...], Length(model.num_codebooks, model.num_codebooks)]
    try:
        found: tuple[tuple[int, ...], ...] = check_value(codes, Annotated[tuple[frame, ...], Length(1)], "codes")
    except ConfigError as error:
        raise CalibrationError(f"{where}: {error}") from None
    return found


def _read_folder(folder: Path) -> Iterator[Item]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READABLE)
    for number, path in enumerate(files):
        words = path.with_suffix(".txt")
        name = str(path.relative_to(folder))
        if not words.is_file():
            raise CalibrationError(f"{path}: its words are missing: write them to {words.name} beside it")
        task = path.relative_to(folder).parts[0] if path.parent != folder else "speech"
        text = read_text(words, CalibrationError).strip()
        yield Item(name=name, number=number, task=task, text=text, audio=path)


def _hash(items: Sequence[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        fields = [item.task, item.text, item.voice, item.voice_text, item.codes]
        digest.update(json.dumps(fields).encode())
        if item.audio is not None:
            if not item.audio.is_file():
                raise CalibrationError(f"{item.name}: there is no audio file {item.audio}")
            digest.update(sha256_of(item.audio).encode())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """An item as the model reads it in one pass: its prompt, then `num_rows` delayed rows of codes."""

    name: str
    domain: str
    prompt: Prompt
    num_rows: int


class ItemReader:
    """Turns items into samples with the bundle's own front end, codec and model. Its sessions close with the block.

    Same bundle, item and seed give the same sample.
    """

    def __init__(self, bundle: Bundle, *, seed: int = 0) -> None:
        self._bundle, self._seed = bundle, seed
        self._backend: Backend = open_backend("onnxruntime", bundle)
        self._synthesizer = Synthesizer(bundle, self._backend) if bundle.frontend_dir is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()

    def read(self, item: Item) -> Sample:
        """Raises UnimoeError, one line that names the item, for an item that cannot be read, spoken or decoded."""
        config = self._bundle.model
        try:
            prepared, sampling = self._prepare(item)
            max_delay = max(config.delay_pattern)
            room = config.max_positions - int(prepared.prompt.first_position_B.max()) - max_delay
            if room < 1:
                raise PromptError(f"the prompt leaves no room in the model's {config.max_positions} positions")
            max_frames = min(room, MAX_FRAMES)
            sampling = prepared.limit(sampling, max_delay)
            max_steps = min(sampling.max_steps, max_frames + max_delay + 1)
            sampling = replace(sampling, max_steps=max_steps, min_steps=min(sampling.min_steps, max_steps))
            codes_FK = self._codes(item, prepared.prompt, sampling)[:max_frames]
            prompt = forced_prompt(prepared.prompt, codes_FK, config)
        except UnimoeError as error:
            raise CalibrationError(f"{item.name}: {error}") from None
        num_rows = prompt.text_ids_BT.shape[1] - prepared.prompt.text_ids_BT.shape[1]
        return Sample(name=item.name, domain=item.task, prompt=prompt, num_rows=num_rows)

    def _prepare(self, item: Item) -> tuple[PreparedPrompt, SamplingConfig]:
        if self._synthesizer is None:
            rng = np.random.default_rng([self._seed, item.number])
            rows = rng.integers(self._bundle.model.text_vocab_size, size=(2, _RANDOM_LENGTH))
            prompt = Prompt.from_rows(list(rows), paired=True)
            sampling = SamplingConfig(min_steps=_RANDOM_STEPS, max_steps=_RANDOM_STEPS)
            return PreparedPrompt(prompt=prompt, expected_frames=None, caption=""), sampling
        prepared = self._synthesizer.prepare(
            SynthesisRequest(task=item.task, text=item.text, voice=item.voice, voice_text=item.voice_text)
        )
        return prepared, self._synthesizer.sampling(item.task)

    def _codes(self, item: Item, prompt: Prompt, sampling: SamplingConfig) -> NDArray[np.int64]:
        """codes_FK of the item's audio."""
        if item.codes is not None:
            return np.asarray(item.codes, dtype=np.int64)
        if item.audio is not None:
            codec = BundleCodec(self._bundle.codec, self._backend.run)
            first_s = (MAX_FRAMES + _FRAMES_AROUND) * codec.hop_samples / codec.sample_rate_hz
            pcm_L = read_audio(item.audio, codec.sample_rate_hz, first_s=first_s)
            require_sound(item.audio, pcm_L)
            return codec.encode(pcm_L).T
        if not prompt.paired:
            sampling = replace(sampling, guidance_scale=0.0)
        seed = self._seed + item.number
        with closing(BundleModel(self._backend)) as model:
            return collect_frames(generate(model, prompt, self._bundle.model, sampling, seed=seed))[0]
