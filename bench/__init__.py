"""Measurements of the launcher as a user runs it. They report; they never fail a test run."""
