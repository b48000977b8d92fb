"""Models that a cloud service runs, compared with the registry: what is there, and whether it is what was approved."""
