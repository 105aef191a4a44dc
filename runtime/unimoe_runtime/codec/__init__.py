"""The neural codec of a bundle: encode recordings, decode frames to samples."""
