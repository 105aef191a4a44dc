"""Damage to everything that the product reads, and what comes of it. `python -m tests.robustness --help`."""
