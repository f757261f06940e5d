"""CALLHOME: who spoke when in telephone calls between two and more people."""
