"""Text in, findings out: what a text carries, whole or streamed."""
