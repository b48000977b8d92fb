"""From a directory of files to an approved, immutable, signed version."""
