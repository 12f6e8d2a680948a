"""`launcher demo`."""

from __future__ import annotations

from tests.cli.running import run


class TestDemo:
    def test_a_model_that_is_not_there(self) -> None:
        done = run("demo", "--model", "/nonexistent.gguf")

        assert done.returncode == 2
        assert "nonexistent.gguf" in done.stderr
