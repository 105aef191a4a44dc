"""Word errors of a bundle on the texts of a user's own recordings, beside those of the recordings themselves.

The folder needs no preparation: audio files with a .txt beside each, or with a metadata.csv or metadata.jsonl.

T texts
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import soxr

from unimoe.data.corpus import Corpus
from unimoe.data.folders import Entry, read_entries
from unimoe.evaluation.clips import Synthesize, judge
from unimoe.evaluation.intelligibility import RECOGNIZER_RATE_HZ, Recognizer, words_of
from unimoe.evaluation.suite import synthesize_with
from unimoe.evaluation.word_errors import WordErrors, compare_tokens
from unimoe_runtime.audio.files import read_audio
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.errors import OutputError
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_tools.parity.limits import Heard

MUSIC = "music"
OWN_VOICE = ""
"""The bundle does not know the speaker of the recordings, so it speaks with its first voice."""


def is_corpus(folder: Path) -> bool:
    """Whether a folder is a corpus that `unimoe data` made, and not plain recordings."""
    return (folder / "index.jsonl").exists()


def open_recordings(folder: Path, most: int) -> list[Entry]:
    """The first spoken recordings of a folder. Those in its subfolder music/ are not spoken.

    Raises OutputError where it has none with texts.
    """
    spoken = [one for one in read_entries(folder, OWN_VOICE) if one.path.relative_to(folder).parts[0] != MUSIC]
    if not spoken:
        raise OutputError(f"{folder}: only music: words need recordings of speech, each with a .txt of what it says")
    return spoken[:most]


def require_listening(folder: Path) -> None:
    """Raise now what `hear_bundle` would raise later: ModuleNotFoundError without pocketsphinx, OutputError or
    CorpusError for a folder without recordings."""
    import pocketsphinx  # noqa: F401

    if is_corpus(folder):
        Corpus.open(folder)
    else:
        open_recordings(folder, 1)


def hear_recordings(
    synthesize: Synthesize,
    entries: Sequence[Entry],
    sample_rate_hz: int,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Heard:
    """Word error rates of the synthesized audio and of the recordings, by pocketsphinx with its model of English.

    `synthesize` gives audio at `sample_rate_hz`. A text that the bundle refuses counts as silence.
    """
    recognize = Recognizer(None)
    made_T, originals = [], WordErrors()
    for number, entry in enumerate(entries):
        progress(number, len(entries))
        pcm_L = synthesize("speech", entry.text, entry.voice, number)
        words = words_of(entry.text)
        heard = recognize(soxr.resample(pcm_L, sample_rate_hz, RECOGNIZER_RATE_HZ))
        made_T.append(compare_tokens(words, heard.split()))
        originals += compare_tokens(words, recognize(read_audio(entry.path, RECOGNIZER_RATE_HZ)).split())
    made = sum(made_T, WordErrors())
    return Heard(
        summary={"wer": made.rate, "original_wer": originals.rate, "words": made.words},
        word_errors_T=[one.errors for one in made_T],
        words_T=[one.words for one in made_T],
    )


def hear_bundle(backend: Backend, folder: Path, *, num_texts: int, progress: Callable[[int, int], object]) -> Heard:
    """Measure a bundle on the texts of a folder: a rendered corpus, or plain recordings."""
    synthesizer = Synthesizer(backend.bundle, backend)
    if not is_corpus(folder):
        rate_hz = int((backend.bundle.codec or {})["sample_rate_hz"])
        entries = open_recordings(folder, num_texts)
        return hear_recordings(synthesize_with(synthesizer, rate_hz), entries, rate_hz, progress=progress)
    corpus = Corpus.open(folder)
    synthesize = synthesize_with(synthesizer, corpus.sample_rate_hz)
    figures = judge(synthesize, corpus, num_texts=num_texts, tick=progress)
    words = figures.overall_words()
    return Heard(
        summary={**figures.summary(), **({"wer": words.rates()["wer"]} if words.num_texts else {})},
        word_errors_T=[one.errors for one in words.made_by_text],
        words_T=[one.words for one in words.made_by_text],
    )
