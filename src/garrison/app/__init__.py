"""Doors and wiring: settings, command line, control API."""
