"""What the level `microvm` starts: a kernel, an initial file system made here, and the one channel between."""
