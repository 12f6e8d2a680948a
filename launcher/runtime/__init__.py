"""The shell around the core: effects become tasks, their outcomes become events."""
