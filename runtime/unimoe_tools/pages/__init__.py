"""The style and the plots of every HTML page."""
