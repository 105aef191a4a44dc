"""engines.json that is missing, stale, damaged or hostile. tests/export/engines has real engines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unimoe_runtime.bundle.engine_sets import (
    ENGINES_JSON,
    EngineRecord,
    EngineSet,
    built_targets,
    engine_folder,
    engine_key,
    open_engines,
    source_sha256,
    write_engines,
)
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.errors import EngineError
from unimoe_runtime.files.hashes import sha256_of


def write_set(bundle: Bundle, target: str = "sm86") -> EngineSet:
    """A set whose engines are files of a few bytes."""
    folder = engine_folder(bundle, target)
    folder.mkdir(parents=True)
    engines = {}
    for graph in language_model_graphs(bundle.model):
        capacity = 64 if graph.endswith(".trunk") else None
        file = f"{graph}.engine"
        (folder / file).write_bytes(graph.encode())
        engines[engine_key(graph, capacity)] = EngineRecord(
            graph=graph,
            file=file,
            log=f"{graph}.log",
            bytes=len(graph),
            sha256=sha256_of(folder / file),
            source_sha256=source_sha256(bundle, graph),
            recipe_sha256="recipe",
            precision="float32",
            seconds=0.1,
            profile={"x": ((1, 8), (2, 8), (64, 8))},
            cache_capacity=capacity,
        )
    engine_set = EngineSet(
        path=folder,
        target=target,
        flavour="tensorrt-rtx",
        engine_version="1.7.1",
        capabilities=((8, 6),),
        max_rows=2,
        max_positions=64,
        cache_capacities=(64,),
        engines=engines,
        unbuilt={"codec_encoder": "no kernel"},
    )
    write_engines(engine_set)
    return engine_set


@pytest.fixture
def bundle(reference_bundle: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(reference_bundle, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


def edit(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    path = engine_folder(bundle, "sm86") / ENGINES_JSON
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


def test_what_is_written_is_read(bundle: Bundle) -> None:
    written = write_set(bundle)
    read = open_engines(bundle, "sm86")
    assert read == written == open_engines(bundle) and built_targets(bundle) == ("sm86",)
    assert read.sha256() == sha256_of(written.path / ENGINES_JSON) and read.precisions == ("float32",)
    assert read.checked(read.find("head")) == written.path / "head.engine"
    shapes = {(1, 8): True, (64, 8): True, (65, 8): False, (1, 9): False, (8,): False}
    assert {shape: read.find("head").takes({"x": shape, "fixed": (3,)}) for shape in shapes} == shapes
    with pytest.raises(EngineError, match=r"no engine for codec_encoder \(no kernel\)"):
        read.find("codec_encoder")
    with pytest.raises(EngineError, match=r"no engine for layers\.0\.trunk with a cache of 65"):
        read.find("layers.0.trunk", 65)


def test_none_or_several(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="has no engines; `unimoe build"):
        open_engines(bundle)
    write_set(bundle)
    with pytest.raises(EngineError, match=r"no engines for sm89 \(there are some for sm86\); `unimoe build .* sm89`"):
        open_engines(bundle, "sm89")
    write_set(bundle, "sm89")
    with pytest.raises(EngineError, match="engines for sm86, sm89; name one with --target"):
        open_engines(bundle)


HEAD, RECORDS = "head", "engines"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it.update(version=2), "version 2, this release reads 1"),
        (lambda it: it.pop("flavour"), "damaged: the field 'flavour' is missing"),
        (lambda it: it[RECORDS][HEAD].update(colour="red"), "damaged: .*colour"),
        (lambda it: it[RECORDS][HEAD].update(profile={"x": [[1]]}), "damaged"),
        (lambda it: it.update(capabilities=["86"]), "damaged"),
        (lambda it: it[RECORDS].pop(HEAD), "no engine for head"),
        (lambda it: it[RECORDS][HEAD].update(source_sha256="0"), "other graphs than the bundle has now: head"),
        (lambda it: it[RECORDS][HEAD].update(file="../../manifest.json"), "leaves the folder"),
        (lambda it: it[RECORDS][HEAD].update(file="/etc/passwd"), "leaves the folder"),
        (lambda it: it[RECORDS][HEAD].update(file="gone.engine"), "missing; build again"),
        (lambda it: it[RECORDS][HEAD].update(bytes=5), "4 bytes, engines.json says 5"),
    ],
)
def test_what_is_wrong_is_one_line(bundle: Bundle, change: Callable[[dict[str, Any]], object], said: str) -> None:
    write_set(bundle)
    edit(bundle, change)
    with pytest.raises(EngineError, match=said) as problem:
        open_engines(bundle, "sm86")
    assert "\n" not in str(problem.value)


def test_links_and_changed_bytes(bundle: Bundle, tmp_path: Path) -> None:
    engine_set = write_set(bundle)
    head = engine_set.find("head")
    path = engine_set.path / head.file
    path.write_bytes(b"HEAD")
    with pytest.raises(EngineError, match="damaged: its SHA-256"):
        open_engines(bundle).checked(head)
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(b"head")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="a link that leaves the folder"):
        open_engines(bundle)
    with pytest.raises(EngineError, match="missing"):
        engine_set.checked(replace(head, file="gone"))


def test_writing_the_same_again_leaves_the_file_alone(bundle: Bundle) -> None:
    engine_set = write_set(bundle)
    path = engine_set.path / ENGINES_JSON
    before = path.stat().st_mtime_ns
    write_engines(engine_set)
    assert path.stat().st_mtime_ns == before
