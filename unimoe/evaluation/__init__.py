"""Measures the audio of codecs and models: words, voices, notes, quality, routing."""
