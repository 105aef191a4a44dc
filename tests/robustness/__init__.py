"""Damages every kind of input and checks the outcomes. `python -m tests.robustness --help`."""
