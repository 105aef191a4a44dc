"""The memory that a forward borrows from a device's backend: caches, a decode pass over them, and prompt passes.

S cache capacity
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import RLock
from typing import Protocol

import numpy as np

from unimoe_runtime.backends.gpu.passes import DevicePass, PassOwner, Tally
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.bundle.reader import Bundle


class WorkspaceOwner(PassOwner, Protocol):
    """The parts of the backend that workspaces and forwards use."""

    bundle: Bundle
    guard: RLock
    """Held while calls are put on the stream."""
    tally: Tally

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph on host arrays."""

    def borrow(self, num_rows: int, capacity: int) -> Workspace:
        """A workspace with empty caches."""

    def give_back(self, workspace: Workspace) -> None:
        """Take a workspace back, for the next forward of its size."""

    def lend(self) -> Loan:
        """Begin a loan."""

    def end(self, loan: Loan) -> None:
        """Take back all that a loan holds. A second call is harmless."""


class Workspace:
    """Caches of one capacity for a number of rows, and the decode pass over them."""

    def __init__(self, owner: WorkspaceOwner, num_rows: int, capacity: int) -> None:
        model, pool = owner.bundle.model, owner.pool
        self.num_rows, self.capacity = num_rows, capacity
        shape = owner.form.cache_shape(num_rows, capacity)
        self.caches = [(pool.take(shape, np.float32), pool.take(shape, np.float32)) for _ in range(model.num_layers)]
        self.decode = DevicePass(owner, self.caches, num_rows, 1, owner.tally)


class Loan:
    """A forward's share of the backend: its workspace and the passes of its prompt. It ends with the forward."""

    def __init__(self, owner: WorkspaceOwner) -> None:
        self._owner = owner
        self.workspace: Workspace | None = None
        self.prompt: list[DevicePass] = []

    def drop_prompt(self) -> None:
        if self.prompt:
            self._owner.device.synchronize()
            for one in self.prompt:
                one.close()
            self.prompt = []
