"""Kubernetes: what is rendered for a cluster, how a manifest is judged, and what may be admitted."""
