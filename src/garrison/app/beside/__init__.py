"""Configuration for what people already have in front of their models: Envoy, nginx, Kong, AWS and Azure."""
