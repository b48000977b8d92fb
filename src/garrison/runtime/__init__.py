"""Verified bytes into a sandbox, and nothing else."""
