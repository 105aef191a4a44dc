"""Measuring what a codec or a model makes: pitch, words, codebooks."""
