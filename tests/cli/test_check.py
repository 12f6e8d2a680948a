"""`launcher check`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.running import GOOD, run


class TestCheck:
    def test_good(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)

        done = run("check", cwd=tmp_path)

        assert (done.returncode, done.stdout) == (0, "routes.toml: 1 route, all good\n")

    def test_problems(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD + 'cwd = "/nonexistent"\n')

        done = run("check", cwd=tmp_path)

        assert (done.returncode, done.stdout) == (1, "")
        assert "problem: tiny: cwd" in done.stderr

    def test_what_is_no_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text("[routes")

        assert run("check", cwd=tmp_path).returncode == 2
