"""Calibration of bundles for the hardware they will run on. Nothing is here yet."""
