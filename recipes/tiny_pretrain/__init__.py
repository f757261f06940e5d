"""A small WavLM from a folder of speech: labels, HuBERT, better labels, WavLM."""
