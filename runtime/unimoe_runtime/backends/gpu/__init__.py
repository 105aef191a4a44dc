"""Backends on a GPU: TensorRT, TensorRT-RTX and ONNX Runtime with CUDA."""
