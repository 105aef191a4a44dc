"""Comparing a backend, a bundle or an engine set with a reference."""
