"""Predictions for a model on another machine: bytes, memory, step, real-time factor, first audio."""
