"""From text to a prompt. A front end is data: `frontend.json` and the files beside it, copied into every bundle."""

from __future__ import annotations

import json
from pathlib import Path

from unimoe_runtime.errors import BundleError
from unimoe_runtime.frontend.options import SpeechOptions
from unimoe_runtime.frontend.prepared import FrontEnd, PreparedPrompt, Recording, VideoPrompt, VoicePrompt
from unimoe_runtime.frontend.published import KIND as PUBLISHED
from unimoe_runtime.frontend.published import PublishedFrontEnd
from unimoe_runtime.frontend.timeline import KIND as TIMELINE
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

__all__ = ["FrontEnd", "PreparedPrompt", "Recording", "SpeechOptions", "VideoPrompt", "VoicePrompt", "open_frontend"]


def open_frontend(folder: Path | str) -> FrontEnd:
    """Open the front end in a checkpoint's or bundle's `frontend` folder.

    Raises BundleError with one line where it is missing, damaged, or of a kind that this release does not know.
    """
    path = Path(folder) / "frontend.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from None
    kind = settings.get("kind") if isinstance(settings, dict) else None
    match kind:
        case "timeline":
            return TimelineFrontEnd.read(Path(folder), settings)
        case "published":
            return PublishedFrontEnd.read(Path(folder), settings)
        case _:
            raise BundleError(f"{path}: front end of kind {kind!r}; this release knows {TIMELINE} and {PUBLISHED}")
