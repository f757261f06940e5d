"""Masked speech denoising and prediction: what WavLM is pretrained with."""
