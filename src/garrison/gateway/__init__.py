"""The data plane: one request, top to bottom."""
