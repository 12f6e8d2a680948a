"""The command line as a whole: its help, its version, what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from launcher import __version__
from launcher.cli import app
from tests.cli.running import ENVIRON, run

NAMES = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback]


class TestHelp:
    def test_the_version(self) -> None:
        done = run("--version")

        assert (done.returncode, done.stdout) == (0, f"launcher {__version__}\n")

    def test_every_command_is_listed(self) -> None:
        done = run("--help")

        assert done.returncode == 0
        for name in NAMES:
            assert f"│ {name} " in done.stdout

    @pytest.mark.parametrize("name", NAMES)
    def test_every_command_has_an_example(self, name: str) -> None:
        done = run(name, "--help")

        assert done.returncode == 0
        assert f"  launcher {name}" in done.stdout

    def test_what_the_demo_needs_is_spelled_out(self) -> None:
        # In rich's markup a word in brackets is a style, and vanishes.
        assert "pip install 'lazy-launcher[demo]'" in run("demo", "--help").stdout

    def test_no_command_is_an_error_that_helps(self) -> None:
        done = run()

        assert done.returncode == 2
        assert "launcher serve" in done.stdout + done.stderr

    def test_the_servers_libraries_are_not_loaded_for_a_client(self) -> None:
        script = (
            "import sys\n"
            "import launcher.cli, launcher.client.launcher\n"
            "import launcher.cli.views\n"
            "print(sorted({'aiohttp', 'aiodocker', 'pydantic', 'uvloop'} & set(sys.modules)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRON
        )

        assert done.stdout == "[]\n"
