"""Carrying one exchange from a client to a granted backend and back."""
