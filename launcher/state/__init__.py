"""What outlives a restart, in SQLite on a thread of its own."""
