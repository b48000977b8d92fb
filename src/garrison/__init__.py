"""Garrison: from a model file on disk to a production endpoint, with proof at every step."""

__version__ = "0.1.0"
