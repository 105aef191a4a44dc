"""Reading and writing files: safetensors, JSON, hashes, and atomic replacement."""
