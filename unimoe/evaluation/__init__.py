"""Measures the output of a codec or a model: pitch, words, codebooks."""
