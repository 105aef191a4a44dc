"""From text to a prompt. A front end is data: `frontend.json` and the files beside it. Every bundle has a copy."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.frontend.options import SpeechOptions
from unimoe_runtime.frontend.prepared import PreparedPrompt, Recording, VideoPrompt, VoicePrompt
from unimoe_runtime.frontend.protocols import FrontEnd
from unimoe_runtime.frontend.published import KIND as PUBLISHED
from unimoe_runtime.frontend.published import PublishedFrontEnd
from unimoe_runtime.frontend.timeline import KIND as TIMELINE
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.records import shown

__all__ = ["FrontEnd", "PreparedPrompt", "Recording", "SpeechOptions", "VideoPrompt", "VoicePrompt", "open_frontend"]


def open_frontend(folder: Path | str) -> FrontEnd:
    """Open the front end in a checkpoint's or bundle's `frontend` folder.

    Raises BundleError, one line, where it is missing, damaged, or of a kind that this release does not know.
    """
    path = Path(folder) / "frontend.json"
    settings = read_json(path, BundleError)
    kind = settings.get("kind")
    match kind:
        case "timeline":
            return TimelineFrontEnd.read(Path(folder), settings)
        case "published":
            return PublishedFrontEnd.read(Path(folder), settings)
        case _:
            raise BundleError(f"{path}: front end of kind {shown(kind)}; this release knows {TIMELINE} and {PUBLISHED}")
