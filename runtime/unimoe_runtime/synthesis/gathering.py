"""Which streams are in the shared cache: those of a step join, and those that have been idle for some time leave."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from unimoe_runtime.backends.protocol import RowCounts
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.synthesis.shared_steps import SharedSteps

# A stream that waits for no frame keeps its rows for this many steps, because most readers return immediately.
_KEPT_STEPS = 8


class Gathering:
    """Puts the streams of each step into the shared cache. One thread uses it."""

    def __init__(self, shared: SharedSteps, counts: RowCounts) -> None:
        self._shared, self._counts = shared, counts
        self._idle_steps: dict[BundleModel, int] = {}

    def gather(self, models: Sequence[BundleModel], excluded: Collection[BundleModel]) -> dict[BundleModel, Exception]:
        """Put `models` into the shared cache. Remove `excluded` ones, and those that have been idle for too long.

        Returns the error of each model for which there is no room.
        """
        for model in self._shared.models:
            idle = 0 if model in models else self._idle_steps.get(model, 0) + 1
            self._idle_steps[model] = idle
            if idle > _KEPT_STEPS or model in excluded:
                self._shared.park(model)
                del self._idle_steps[model]
        failed: dict[BundleModel, Exception] = {}
        for model in models:
            try:
                if model not in self._shared:
                    self._make_room(model, models)
                    self._shared.join(model)
            except Exception as error:
                failed[model] = error
        return failed

    def forget(self, model: BundleModel) -> None:
        """Remove a stream that has ended."""
        if model in self._shared:
            self._shared.leave(model)
        self._idle_steps.pop(model, None)

    def _make_room(self, model: BundleModel, models: Sequence[BundleModel]) -> None:
        for idle in self._shared.models:
            if self._shared.num_rows_with(model) <= self._counts.most:
                return
            if idle not in models:
                self._shared.park(idle)
