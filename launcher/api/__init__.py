"""The launcher's own endpoints, one file per concern."""
