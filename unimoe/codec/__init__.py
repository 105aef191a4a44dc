"""Neural codecs behind one small interface: `load_codec` opens a folder, whichever kind lies in it."""
