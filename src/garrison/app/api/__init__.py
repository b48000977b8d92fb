"""The control API: one POST a verb, over a Unix socket whose peer is checked."""
