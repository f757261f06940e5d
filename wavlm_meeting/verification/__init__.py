"""Whose voice is it: models of voices, scores, and a register of known ones."""
