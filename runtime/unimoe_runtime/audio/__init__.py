"""Audio files, the log-mel spectrum, and the sinks that a stream is written to."""
