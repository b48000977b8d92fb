"""Views over evidence: posture, inventory, controls."""
