"""Graphs of the codecs: ConvNeXt (ours), DAC, EnCodec."""
