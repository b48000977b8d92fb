"""What is measured, as values, and the forms in which others read it: Prometheus text, OTLP in JSON."""
