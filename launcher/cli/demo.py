"""`launcher demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE.gguf",
            exists=True,
            dir_okay=False,
            help="Serve this model instead of the tiny ones. May be repeated.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", "-l", metavar="HOST:PORT", help="Where to listen.")
    ] = "127.0.0.1:8000",
    check: Annotated[bool, typer.Option("--check", help="Ask every model once, and end.")] = False,
) -> None:
    """Serve two real language models, of which only one is up at a time.

    Needs no Docker and no GPU, only `pip install 'lazy-launcher\\[demo]'`:
    llama.cpp as local processes, and tiny models of random weights that are
    written on the spot.

    \b
      launcher demo
      launcher demo --model qwen2.5-0.5b-instruct-q4_k_m.gguf
    """
    from launcher.demo import run

    raise typer.Exit(run(listen=listen, models=model or [], check=check))
