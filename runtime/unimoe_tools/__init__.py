"""Tools that look at a bundle or a machine: profiling, planning, parity, doctor. No torch."""
