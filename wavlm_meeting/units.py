"""Units that every part of the toolkit shares."""

SAMPLE_RATE = 16_000
"""Samples per second of all audio inside the toolkit (mono float32)."""
