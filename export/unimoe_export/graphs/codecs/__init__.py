"""Graphs of the codecs: ConvNeXt and harmonic (ours), DAC, EnCodec."""
