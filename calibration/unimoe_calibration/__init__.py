"""Calibration: quantizing a bundle for the hardware that it will run on."""
