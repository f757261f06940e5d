"""Continuous speech separation: mixtures of LibriSpeech to train on, LibriCSS to test on."""
