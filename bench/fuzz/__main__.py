"""Feed the HTTP parsers what nobody would send, guided by the code that it reaches (atheris).

    python -m bench.fuzz {server,upstream} --minutes N [--corpus DIR]

An input is a byte of flags, a byte that says how to split, and what comes in on the connection.
It is fed whole and in pieces; see `check` in server.py and upstream.py for what has to hold. The
inputs in tests/http/corpus are where it begins, and a test runs them all. DIR gets what reaches
new code; an input that fails is written to the current directory and ends the run. `--keep` copies
the smallest inputs of DIR that together reach as much as all of them to tests/http/corpus.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "tests" / "http" / "corpus"
#: Bytes of an input, at most.
LONGEST = 3000
WORDS = (
    *("GET ", "POST ", "HEAD ", "CONNECT ", " HTTP/1.1\\x0d\\x0a", " HTTP/1.0\\x0d\\x0a"),
    *("\\x0d\\x0a", "\\x0d\\x0a\\x0d\\x0a", "\\x0a", "\\x0d", "\\x00", "\\x09", "\\x0b", "\\x7f"),
    *("Host: a\\x0d\\x0a", "Content-Length: ", "Transfer-Encoding: chunked\\x0d\\x0a", "chunked"),
    *("Connection: ", "close", "keep-alive", "Upgrade: ", "websocket", "h2c", "Expect: "),
    *("100-continue", "0\\x0d\\x0a\\x0d\\x0a", "5\\x0d\\x0ahello\\x0d\\x0a", ";x=y", "gzip, "),
    *("HTTP/1.1 200 OK\\x0d\\x0a", "HTTP/1.1 100 Continue\\x0d\\x0a\\x0d\\x0a", "HTTP/1.1 101 x"),
    *("HTTP/1.1 204 x", "HTTP/1.1 304 x", "http://a/", "%00", "\\\\", "#", "?", "/../", "%2e%2e"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run it, with the command line given."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("side", choices=("server", "upstream"))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--corpus", type=Path, help="default: a folder that is removed at the end")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = folder / "words"
        words.write_text("".join(f'"{word}"\n' for word in WORDS))
        corpus = options.corpus or folder / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        kept = KEPT / options.side
        kept.mkdir(parents=True, exist_ok=True)
        fresh = folder / "fresh"
        fresh.mkdir()
        program = folder / "program"
        target = f'"{sys.executable}" -m bench.fuzz.target "$0" {options.side} "$@"'
        program.write_text(f"#!/bin/sh\nexec {target}\n")
        program.chmod(0o755)
        if options.keep:
            arguments = ["-merge=1", str(fresh), str(kept), str(corpus)]
        else:
            arguments = [f"-max_total_time={int(options.minutes * 60)}", str(corpus), str(kept)]
        limits = [f"-max_len={LONGEST}", f"-dict={words}", "-timeout=20", "-rss_limit_mb=2048"]
        done = subprocess.run([str(program), *limits, *arguments], check=False)
        if options.keep and not done.returncode:
            for path in kept.iterdir():
                path.unlink()
            for path in fresh.iterdir():
                shutil.copy(path, kept)
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
