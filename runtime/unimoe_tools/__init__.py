"""Tools that examine a bundle or a machine: profiling, planning, parity, doctor. They do not need torch."""
