"""The one exception tree of the project.

    UnimoeError                 anything a user can cause or fix; the CLI prints it as one line and exits with 1
    ├── ConfigError             a configuration that is inconsistent
    ├── CheckpointError         a checkpoint folder that cannot be read as one
    ├── BundleError             a bundle that is incomplete, damaged, or of another version
    ├── BackendError            a backend or provider that is not installed or cannot run this bundle
    ├── EngineError             engines that are not built, stale, damaged, or made for another machine
    ├── AudioError              an audio file that cannot be read or written
    ├── VideoError              a video file without frames, or one that cannot be read
    ├── ClosedError             a synthesizer or a stream that is used after it was closed
    ├── PromptError             text, voice or music description that the bundle cannot speak or play
    ├── CalibrationError        data that are unusable for calibration, or a target that cannot take the result
    ├── GraphError              a graph whose result differs from the oracle's
    └── OutputError             a result that cannot be written

A message says what is wrong, where, and what to do about it, on one line.
"""

from __future__ import annotations


class UnimoeError(Exception):
    """Base of everything that bad input, a bad file or a missing part can cause."""


class ConfigError(UnimoeError, ValueError):
    """A configuration field has a value outside its range, or two fields contradict each other."""


class CheckpointError(UnimoeError):
    """A checkpoint folder is incomplete or has a tensor of the wrong shape."""


class BundleError(UnimoeError):
    """A bundle is missing a file, damaged, or written in another version."""


class BackendError(UnimoeError):
    """A backend is not installed, or cannot run this bundle on this machine."""


class EngineError(UnimoeError):
    """A bundle's engines for a target are not built, stale, damaged, or made for another machine."""


class AudioError(UnimoeError):
    """An audio file cannot be read or written."""


class VideoError(UnimoeError):
    """A video file cannot be read, or its frames do not fit the vision tower."""


class PromptError(UnimoeError):
    """A prompt is empty, too long, or asks for something that the bundle does not have."""


class ClosedError(UnimoeError):
    """A synthesizer or a stream is used after it was closed."""


class CalibrationError(UnimoeError):
    """Calibration data are missing or unusable, or the target does not support the request."""


class GraphError(UnimoeError):
    """A graph's result differs from the oracle's by more than its tolerance."""


class OutputError(UnimoeError):
    """A result cannot be written where it was asked for."""
