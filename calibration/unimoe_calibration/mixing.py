"""One model from the graphs of several bundles. Each run chooses the bundle of each graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.onnxruntime.passes import GatheredTokens
from unimoe_runtime.bundle.reader import Bundle


class MixedBackend(OnnxRuntimeBackend):
    """Runs each graph from the scheme that `choice` names for it, and from `base` where it names none.

    `schemes` are bundles of one model with the same smoothing and other number formats, so that their graphs can be
    mixed. `choice` may be replaced between passes; sessions stay open.
    """

    def __init__(self, schemes: Mapping[str, Bundle], base: str) -> None:
        super().__init__(schemes[base])
        self.schemes = {name: OnnxRuntimeBackend(bundle) for name, bundle in schemes.items()}
        self.base = base
        self.choice: Mapping[str, str] = {}

    def session(self, graph: str) -> Any:
        return self.schemes[self.choice.get(graph, self.base)].session(graph)

    def gathered(self, size: int) -> GatheredTokens:
        """New buffers each time, because kept ones would stay bound to the experts of an earlier choice."""
        return GatheredTokens(self, size)

    def close(self) -> None:
        for backend in self.schemes.values():
            backend.close()
