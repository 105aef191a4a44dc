"""The backend over ONNX Runtime. Importing it raises BackendError, one line, if ONNX Runtime is not installed."""

from __future__ import annotations

from unimoe_runtime.errors import BackendError
from unimoe_runtime.install import install_command

try:
    import onnxruntime as onnxruntime
except ImportError:
    raise BackendError(f"ONNX Runtime is not installed: `{install_command('cpu')}`") from None
