"""Checks a whole recipe before any of it runs.

All stages are checked, also those that run hours later: fields, types, ranges, consistency between sections, and the
programs that they need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from unimoe.codec.base import OWN_KINDS, codec_config
from unimoe.codec.settings import AdversarialTraining, CodecTraining, PredictedTraining
from unimoe.config import DOMAINS, preset
from unimoe.data.recipe import CorpusRecipe, require_tools
from unimoe.training.settings import TrainingConfig
from unimoe.training.versions import VersionRecipe
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.json import read_json, read_toml
from unimoe_runtime.records import Between, Length, check_value

NEEDED: Final = ("data", "codec", "frontend", "model", "train", "sampling")
STAGES: Final = ("base", "specialist", "warmup", "joint")
_KNOWN: Final = (*NEEDED, *STAGES, "versions", "balance", "decoder", "filter")
_Sections = Mapping[str, Mapping[str, Any]]


def read_recipe(path: Path, sections: tuple[str, ...] | list[str] = NEEDED) -> dict[str, Any]:
    """A recipe's content. Raises ConfigError where the file is missing, not TOML, or lacks one of the sections."""
    recipe = read_toml(path, ConfigError)
    for name in sections:
        if name not in recipe:
            raise ConfigError(f"{path}: the section [{name}] is missing")
        if not isinstance(recipe[name], dict):
            raise ConfigError(f"{path}: {name} must be a section, [{name}]")
    return recipe


def data_section(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recipe's [data], or that of the file which it names as `recipe`. Raises ConfigError where that has none."""
    if "recipe" not in data:
        return data
    other = Path(check_value(data["recipe"], Annotated[str, Length(1, 4096)], "recipe"))
    section: dict[str, Any] = read_recipe(other, ["data"])["data"]
    return section


def check_recipe(path: Path, *, tools: bool = True) -> dict[str, Any]:
    """Read a recipe and check all of it. With `tools`, also check that its corpus can be rendered here, or that the
    corpus and the parts of the front end lie in the folders that it names.

    Raises ConfigError or OutputError, one line, for the first error.
    """
    recipe = read_recipe(path)
    unknown = sorted(set(recipe) - set(_KNOWN))
    if unknown:
        raise ConfigError(f"{path}: there is no section [{unknown[0]}]; known: {', '.join(_KNOWN)}")
    with _of(path, "data"):
        corpus = _check_data(recipe["data"])
    with _of(path, "codec"):
        num_codebooks, codebook_size = _check_codec(recipe["codec"])
    with _of(path, "frontend"):
        from unimoe.training.frontend import FrontEndRecipe

        parts = FrontEndRecipe.from_dict(recipe["frontend"]).parts
    with _of(path, "model"):
        sizes = {"num_codebooks": num_codebooks, "codebook_size": codebook_size}
        preset("demo", **{"delay_pattern": list(range(num_codebooks)), **sizes, **recipe["model"]})
    with _of(path, "versions"):
        VersionRecipe.from_dict(_table(recipe.get("versions", {}), "it"))
    _check_stages(path, recipe)
    with _of(path, "decoder"):
        if "decoder" in recipe:
            _check_decoder(_table(recipe["decoder"], "it"), recipe["codec"])
    for task, values in recipe["sampling"].items():
        with _of(path, f"sampling.{task}"):
            SamplingConfig.from_dict(values)
    if tools:  # last: a mistake in the recipe is the first thing to know
        _require_material(path, recipe, corpus, parts)
    return recipe


def _require_material(path: Path, recipe: Mapping[str, Any], corpus: CorpusRecipe | None, parts: str) -> None:
    """Raise an error where what the recipe is made from is neither here nor can be made here."""
    if corpus is not None:
        require_tools(corpus)
    else:
        with _of(path, "data"):
            _require(Path(recipe["data"]["folder"]) / "index.jsonl", "no corpus")
    if parts:
        with _of(path, "frontend"):
            _require(Path(parts) / "letter_to_sound.json", "no letter-to-sound model: `unimoe data lexicon` makes it")
            _require(Path(parts) / "durations.json", "no duration predictor: `unimoe data durations` makes it")


@contextmanager
def _of(path: Path, section: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: section [{section}]: {error}") from None


def _check_data(data: Mapping[str, Any]) -> CorpusRecipe | None:
    """The recipe of the corpus to render; None where the corpus already exists."""
    if "folder" in data:
        check_value(data["folder"], Annotated[str, Length(1, 4096)], "folder")
        return None
    return CorpusRecipe.from_dict(data_section(data))


def _require(file: Path, lacking: str) -> None:
    """Raise ConfigError where a folder of the recipe lacks the file that shows what it is."""
    if not file.exists():
        place = "" if file.is_absolute() else "; a recipe's folders begin in the one where the command runs"
        raise ConfigError(f"{file.parent} has {lacking} ({file.name} is missing){place}")


_CODEC_SIZES = ("num_codebooks", "codebook_size")


def _check_codec(fields: Mapping[str, Any]) -> tuple[int, int]:
    """Number of codebooks in use, and of codes in each."""
    rest = dict(fields)
    folder = check_value(rest.pop("folder", ""), Annotated[str, Length(0, 4096)], "folder")
    shape = codec_config(_table(rest.pop("shape", {}), "shape"))
    most = 64 if folder else shape.num_codebooks
    kept = check_value(rest.pop("kept_codebooks", 0), Annotated[int, Between(0, most)], "kept_codebooks")
    decoder, finish = (_table(rest.pop(name, {}), name) for name in ("decoder", "finish"))
    CodecTraining.from_dict(rest)
    if decoder:
        of_decoder = _table(decoder.pop("shape", {}), "decoder.shape")
        if not folder:  # an existing codec decides itself which settings fit its decoder
            codec_config({**shape.to_dict(), **of_decoder})
        CodecTraining.from_dict({"codebooks_from_step": 0, **decoder})
    if finish:
        AdversarialTraining.from_dict(finish)
    if folder:
        stored = Path(folder) / "config.json"
        _require(stored, "no codec")
        of_folder = read_json(stored, ConfigError)
        sizes = [check_value(of_folder.get(name), Annotated[int, Between(1, 1 << 20)], name) for name in _CODEC_SIZES]
        return kept or sizes[0], sizes[1]
    return kept or shape.num_codebooks, shape.codebook_size


def _check_decoder(fields: Mapping[str, Any], codec: Mapping[str, Any]) -> None:
    PredictedTraining.from_dict(fields)
    folder = codec.get("folder", "")
    stored = Path(folder) / "config.json"
    if folder and read_json(stored, ConfigError).get("kind") not in OWN_KINDS:
        raise ConfigError(f"{folder} holds a codec of another kind; only our own can be trained")


def _check_stages(path: Path, recipe: _Sections) -> None:
    with _of(path, "train"):
        common = dict(recipe["train"])
        check_value(common.pop("leave_out", []), tuple[str, ...], "leave_out")
        TrainingConfig.from_sections(common)
    for stage in STAGES:
        with _of(path, stage):
            section = _table(recipe.get(stage, {}), stage)
            tables = {name: section.pop(name) for name in DOMAINS if name in section} if stage == "specialist" else {}
            for values in ({}, *(_table(values, name) for name, values in tables.items())):
                TrainingConfig.from_sections(common, section, values)
    balance = recipe.get("balance", {})
    with _of(path, "balance"):
        check_value(balance, Mapping[str, Annotated[int, Between(1, 1 << 40)]], "balance")
        if balance and set(balance) != set(DOMAINS):
            raise ConfigError(f"it names {', '.join(balance)}; it must name {', '.join(DOMAINS)}")


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a section")
    return dict(value)
