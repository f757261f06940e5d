"""The WavLM encoder."""
