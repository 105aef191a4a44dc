"""`unimoe build`: a bundle's graphs compiled by TensorRT-RTX or TensorRT (docs/how-to/build-engines.md)."""
