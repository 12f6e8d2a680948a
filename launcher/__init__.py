"""The lazy-launch reverse proxy for self-hosted models."""

__version__ = "0.1.0"
