"""A cache of computed values with a limit on their bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Values by the hash of their input, at most `max_bytes` in total, for any number of threads.

    The least recently used value is dropped first. A value larger than `max_bytes` is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._values: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> Value | None:
        """The value of a key, which becomes the most recently used; None if it is not kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: bytes, value: Value, num_bytes: int) -> None:
        """Keep a value that takes `num_bytes`."""
        with self._lock:
            if key in self._values or num_bytes > self._max_bytes:
                return
            self._values[key] = value, num_bytes
            self.num_bytes += num_bytes
            while self.num_bytes > self._max_bytes:
                self.num_bytes -= self._values.popitem(last=False)[1][1]
