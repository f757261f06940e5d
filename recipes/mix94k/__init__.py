"""The 94,000 hours that WavLM was pretrained on, from their published folders to shards."""
