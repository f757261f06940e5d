"""Recipes: from a corpus to a model and its table of figures."""
