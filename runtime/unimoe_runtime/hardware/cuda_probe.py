"""NVIDIA GPUs, read from the driver's library; this needs no CUDA toolkit and no package.

As a script it prints the result as JSON, so that a driver that crashes or hangs affects only that process. It imports
nothing of ours.
"""

import ctypes
import json
import sys
from typing import Any

_LIBRARIES = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1")
# CUdevice_attribute, cuda.h
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76


def read_gpus(library: Any = None) -> dict[str, Any]:
    """{"cuda": the driver's CUDA version or None, "gpus": [...], "problem": one line or None}.

    For each GPU: name, compute_capability as "8.9", memory_bytes, integrated (shares the host's memory).
    """
    found: dict[str, Any] = {"cuda": None, "gpus": [], "problem": None}
    try:
        library = library or _load()
        number = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
            found["cuda"] = f"{number.value // 1000}.{number.value % 1000 // 10}"
        _ask(library, "cuInit", 0)
        _ask(library, "cuDeviceGetCount", ctypes.byref(number))
        found["gpus"] = [_read_gpu(library, index) for index in range(number.value)]
    except (OSError, AttributeError) as error:
        found["problem"] = str(error).splitlines()[0]
    return found


def _load() -> Any:
    missing = OSError()
    for name in reversed(_LIBRARIES):  # the error of the usual path is the one reported
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            missing = error
    raise missing


def _read_gpu(library: Any, index: int) -> dict[str, Any]:
    device, size, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _ask(library, "cuDeviceGet", ctypes.byref(device), index)
    _ask(library, "cuDeviceGetName", name, len(name), device)
    _ask(library, "cuDeviceTotalMem_v2", ctypes.byref(size), device)
    values = []
    for attribute in (_MAJOR, _MINOR, _INTEGRATED):
        value = ctypes.c_int()
        _ask(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        values.append(value.value)
    return {
        "name": name.value.decode(errors="replace"),
        "compute_capability": f"{values[0]}.{values[1]}",
        "memory_bytes": size.value,
        "integrated": bool(values[2]),
    }


def _ask(library: Any, function: str, *arguments: Any) -> None:
    """Call a function of the driver. Raises OSError with the driver's message."""
    code = getattr(library, function)(*arguments)
    if code != 0:
        words = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(words))
        said = words.value.decode(errors="replace") if words.value else "unknown error"
        raise OSError(f"{function}: {said} (error {code})")


if __name__ == "__main__":
    print(json.dumps(read_gpus()))
