"""Writes codec graphs into a folder and runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimoe_export.graphs.codecs.common import CodecGraphs
from unimoe_export.graphs.codecs.write import write_codec
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.codec.bundle_codec import BundleCodec


@dataclass(frozen=True, kw_only=True)
class Written:
    """Graphs in a folder, and a runtime codec over them."""

    folder: Path
    graphs: CodecGraphs
    sessions: Mapping[str, Any]

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        session = self.sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    @property
    def codec(self) -> BundleCodec:
        return BundleCodec(json.loads(json.dumps(self.graphs.manifest())), self.run)

    def first_state(self, rows: int) -> dict[str, np.ndarray]:
        """The decoder's state before the first chunk. Only its batch axis is dynamic."""
        return {s.name: np.zeros((rows, *map(int, s.shape[1:])), s.dtype) for s in self.graphs.decoder_state}

    def decode(self, codes_BKT: np.ndarray) -> np.ndarray:
        """Run the decoder's graph on a batch, from the first state."""
        return self.run("codec_decoder", {"codes_BKT": codes_BKT, **self.first_state(len(codes_BKT))})["pcm_BL"]


def write(codec_dir: Path, folder: Path, num_codebooks: int | None = None) -> Written:
    graphs = write_codec(codec_dir, folder, num_codebooks)
    sessions = {graph.name: open_session(folder / graph.file) for graph in (graphs.encoder, graphs.decoder)}
    return Written(folder=folder, graphs=graphs, sessions=sessions)
