"""OCI images and registries: layouts checked and signed where they lie, models pushed and pulled as artifacts."""
