"""Where a model comes from: one value (`base.py`), and one module for each place that can tell."""
