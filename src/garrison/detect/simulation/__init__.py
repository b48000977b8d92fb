"""A labelled organisation that asks models for a week: what the anomaly detectors are measured on.

It knows nothing of the detectors, and they nothing of it: they share the form of an event and no number.
"""
