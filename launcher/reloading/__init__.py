"""A new routes.toml while requests run: read, compared, and applied as a difference."""
