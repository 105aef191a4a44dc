"""The torch side of UniMoE on the edge: model, codec, data, training and evaluation, and the command line."""
