"""The embedded model `tiny`: from a folder of labelled speech to the files in `assets/`."""
