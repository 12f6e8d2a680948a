"""`python -m launcher`, and the `launcher` command."""

from __future__ import annotations


def main() -> None:
    """Hand the command line over."""
    from launcher.cli import app

    app(prog_name="launcher")


if __name__ == "__main__":
    main()
