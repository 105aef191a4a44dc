"""`unimoe build`: a bundle's graphs compiled by TensorRT-RTX or TensorRT (docs/engines.md)."""
