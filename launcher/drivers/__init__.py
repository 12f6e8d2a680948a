"""How a backend is held: a container, a local process, or a script for tests."""
