"""Compares a bundle with the torch model of its checkpoint."""
