"""Measurements of the runtime against its alternatives and against the machine; see README.md in this folder."""
