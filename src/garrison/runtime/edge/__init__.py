"""Edge and air-gapped sites: one file that carries an approved model, and what a device makes of it."""
