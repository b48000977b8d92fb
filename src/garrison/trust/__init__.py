"""Who asks, what they may do, and whose signature counts."""
