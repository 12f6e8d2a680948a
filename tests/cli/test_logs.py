"""`launcher logs`."""

from __future__ import annotations

from tests.cli.running import run


def test_who_is_not_there(url: str) -> None:
    done = run("logs", "codr", "--url", url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "No backend or route is called codr. Backends: coder, chat, tiny.\n"
