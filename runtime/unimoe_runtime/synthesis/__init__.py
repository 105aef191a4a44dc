"""From a request to audio: language model, chunks, streams, synthesizer."""
