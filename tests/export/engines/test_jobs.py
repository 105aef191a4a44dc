"""The jobs of a build: a pack's device needs no engine of a graph that the pack left out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.speaking_bundle import write_speaking_bundle
from unimoe_export.engines.jobs import list_jobs
from unimoe_export.engines.sizes import Limits
from unimoe_runtime.bundle.manifest import DECODER, ENCODER, MANIFEST
from unimoe_runtime.bundle.reader import LEFT_OUT, open_bundle


def test_what_a_pack_left_out_is_not_built(tmp_path: Path) -> None:
    folder = write_speaking_bundle(tmp_path)
    encoder = open_bundle(folder).graphs[ENCODER]
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, LEFT_OUT: [encoder.file, encoder.weights]}))
    for file in (encoder.file, encoder.weights):
        (folder / file).unlink()
    jobs = list(list_jobs(open_bundle(folder), ((8, 9),), Limits(cache_capacities=(256,)), "a toolkit"))
    graphs = {job.graph for job in jobs}
    assert DECODER in graphs and "head" in graphs and ENCODER not in graphs
