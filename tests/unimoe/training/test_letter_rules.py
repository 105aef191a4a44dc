"""Letter rules learnt from words."""

from __future__ import annotations

from unimoe.training.letter_rules import learn_rules
from unimoe_runtime.frontend.lexicon import Lexicon


def test_rules_are_learnt_from_words() -> None:
    stems = ["ba", "da", "ga", "ka", "la", "ma", "na", "pa"]
    words = {stem + end: tuple(stem + end.replace("e", "")) for stem in stems for end in ("te", "ne", "ts", "ns", "t")}
    words |= {stem + "sh": (*stem, "sh") for stem in stems}
    lexicon = Lexicon(words={}, rules=learn_rules(words))
    assert lexicon.sound_out("bate") == ("b", "a", "t")
    assert lexicon.sound_out("lash") == ("l", "a", "sh")
    assert lexicon.sound_out("lats") == ("l", "a", "t", "s")
