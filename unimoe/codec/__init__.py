"""Neural codecs behind one small interface. `load_codec` opens a folder of any kind of codec."""
