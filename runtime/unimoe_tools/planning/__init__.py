"""What a model will do on a machine that is not here: bytes, memory, step, real-time factor, first audio."""
