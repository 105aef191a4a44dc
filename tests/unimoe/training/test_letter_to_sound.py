"""Training of letter-to-sound: alignment, held-out words, errors."""

from __future__ import annotations

import itertools

from unimoe.training.letter_alignment import align_words, learn_shares
from unimoe.training.letter_to_sound import (
    LetterToSoundRecipe,
    is_held_out,
    pronunciation_errors,
    train_letter_to_sound,
)

SOUNDS = {"b": "b", "d": "d", "k": "k", "m": "m", "s": "s", "t": "t", "a": "ae", "e": "eh", "o": "aa", "x": "k s"}


def made_up_words() -> dict[str, tuple[str, ...]]:
    """Words of a language in which each letter has one sound and the first vowel is stressed."""
    words = {}
    for letters in itertools.product("bdkmstx", "aeo", "bdkmstx", "aeo"):
        sounds = [sound for letter in letters for sound in SOUNDS[letter].split()]
        vowels = [at for at, sound in enumerate(sounds) if sound in ("ae", "eh", "aa")]
        for at in vowels:
            sounds[at] += "1" if at == vowels[0] else "0"
        words["".join(letters)] = tuple(sounds)
    return words


def test_phonemes_are_shared_out_among_letters() -> None:
    words = made_up_words()
    aligned = align_words(words, learn_shares(words))
    assert aligned["bada"] == [("b",), ("ae1",), ("d",), ("ae0",)]
    for word, shares in aligned.items():
        assert tuple(sound for share in shares for sound in share) == words[word]
        assert len(shares) == len(word) and max(map(len, shares)) <= 2


def test_a_regular_language_is_learnt_and_held_out_words_are_read() -> None:
    words = made_up_words()
    held_out = {word: sounds for word, sounds in words.items() if is_held_out(word)}
    assert 1 <= len(held_out) < 0.1 * len(words)
    recipe = LetterToSoundRecipe(channels=24, blocks=2, epochs=25, batch_words=32, learning_rate=1e-2, dropout=0.0)
    steps: list[int] = []
    model = train_letter_to_sound(words, recipe, lambda step, total, loss: steps.append(step))
    errors = pronunciation_errors(model, held_out)
    assert errors.num_words == len(held_out) and errors.words <= 0.2 and errors.phonemes <= 0.05
    assert errors.words_without_stress <= errors.words
    assert steps == list(range(1, len(steps) + 1))


def test_errors_are_counted_with_and_without_stress() -> None:
    said = {"cat": ("k", "ae1", "t"), "go": ("g", "ow1")}
    made = {"cat": ("k", "ae0", "t"), "go": ("g", "ow1")}
    errors = pronunciation_errors(made.__getitem__, said)
    assert (errors.phonemes, errors.words, errors.words_without_stress) == (0.2, 0.5, 0.0)
