"""The torch side of UniMoE on the edge: model, codec, data, training, evaluation; and the command line."""
