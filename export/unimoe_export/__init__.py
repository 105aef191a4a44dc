"""From a checkpoint to a bundle: one ONNX graph for each trunk and each expert."""
