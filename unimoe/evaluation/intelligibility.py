"""Measures how intelligible speech is: word error rate by pocketsphinx with a grammar, and STOI against a reference.

A grammar gives optimistic scores, since it can hear nothing else. Print `word_errors.rotated_errors`, where each
reference is the next clip's, beside every word error rate. pocketsphinx and pystoi come with the `eval` extra.
"""

from __future__ import annotations

import re

import numpy as np

from unimoe.data.texts import COMMAND_TEMPLATES, DIGIT_WORDS

RECOGNIZER_RATE_HZ = 16000


def digit_grammar() -> str:
    """A JSGF grammar of one or more digit words."""
    return f"#JSGF V1.0; grammar digits; public <text> = ( {' | '.join(DIGIT_WORDS)} )+;"


def command_grammar() -> str:
    """A JSGF grammar of every command in the corpus."""
    templates = []
    for template in COMMAND_TEMPLATES:
        slots = []
        for choices in template:
            words = " | ".join(choice for choice in choices if choice)
            slots.append(f"[ {words} ]" if "" in choices else f"( {words} )")
        templates.append(" ".join(slots))
    return f"#JSGF V1.0; grammar commands; public <text> = {' | '.join(templates)};"


class Recognizer:
    """pocketsphinx with a grammar, or with its own model of English where there is none."""

    def __init__(self, grammar: str | None) -> None:
        from pocketsphinx import Config, Decoder

        self._decoder = Decoder(Config(samprate=float(RECOGNIZER_RATE_HZ), loglevel="FATAL"))
        if grammar is not None:
            self._decoder.add_jsgf_string("grammar", grammar)
            self._decoder.activate_search("grammar")

    def __call__(self, pcm_L: np.ndarray) -> str:
        """Words heard in mono audio at 16 kHz; an empty string where the grammar found none."""
        samples_L = np.round(np.clip(pcm_L, -1, 1) * 32767).astype("<i2")
        silence = bytes(RECOGNIZER_RATE_HZ // 5 * 2)
        self._decoder.start_utt()
        self._decoder.process_raw(silence + samples_L.tobytes() + silence, full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return heard.hypstr if heard is not None else ""


def words_of(text: str) -> list[str]:
    """Words as the recognizer writes them: lower case, no punctuation except apostrophes."""
    return re.findall(r"[\w']+", text.lower())


def short_time_intelligibility(reference_L: np.ndarray, made_L: np.ndarray, sample_rate_hz: int) -> float:
    """STOI (Taal et al. 2011) of synthesized audio against a reference of the same length, about 0 … 1."""
    from pystoi import stoi

    return float(stoi(reference_L, made_L, sample_rate_hz))
