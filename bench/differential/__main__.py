"""Send the same random requests to two versions of the launcher and compare what is seen.

    python -m bench.differential --old DIR --new DIR [--count 10000] [--seed N]

DIR is a checkout. Each launcher has a recording backend of its own. What the client and the
backend see must be equal but for dates, durations, ports and the random part of Via. A case that
differs is run again, slowly and alone; only what differs each time is reported, made as small as
possible. `WANTED` (compare.py) names the differences that are meant, each with its reason.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.differential.backend import Backend, Record
from bench.differential.cases import Case, cases, smaller
from bench.differential.client import Seen, run
from bench.differential.compare import (
    Facts,
    described,
    differences,
    facts,
    told,
    unwanted,
)

ROOT = Path(__file__).resolve().parents[2]
ROUTES = """\
[launcher]
listen = ["127.0.0.1:0"]
state_file = "none"
prewarm = ["r"]
idle_timeout = "never"
drain_timeout = "1s"
backend_key = "the-backends-own-key"

[routes.r]
command = {command}
models = ["m"]

[routes.p]
backend = "r"
auth = "passthrough"
models = []
"""
#: Seconds of silence that mean that nothing comes, at first and when a case is run again.
QUIET, PATIENT = 0.6, 2.0
AGAIN = 4
#: Cases with the same differences after which another one needs no confirmation.
SEEN = 3
#: Simpler versions of a case that are tried.
TRIES = 12
START = 60.0


@dataclass
class Side:
    """One of the two launchers."""

    name: str
    host: str
    port: int
    backend: Backend
    process: asyncio.subprocess.Process
    log: Path
    runs: int = 0

    async def see(self, case: Case, token: bytes, quiet: float) -> Seen:
        """Carry a case out here."""
        record = self.backend.records[token] = Record(case, lambda: None)
        try:
            return await run(case, self.host, self.port, record, token, quiet)
        finally:
            del self.backend.records[token]
            self.backend.over.add(token)


@asynccontextmanager
async def launched(name: str, checkout: Path, folder: Path) -> AsyncIterator[Side]:
    """A launcher of this checkout in front of a backend of ours, ready."""
    backend = Backend()
    server = asyncio.Future[asyncio.Server]()
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as channel:
        channel.bind(str(path))
        channel.listen()
        channel.setblocking(False)
        taking = asyncio.create_task(_take_listener(channel, backend, server))
        command = [sys.executable, str(ROOT / "bench/differential/socket_holder.py")]
        file = folder / "routes.toml"
        file.write_text(ROUTES.format(command=json.dumps([*command, "{port}", str(path)])))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LAUNCHER_", "MAP__"))}
        clean |= {"PYTHONPATH": str(checkout), "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        log = folder / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "launcher", "serve", "--config", str(file)),
                *("--log-format", "json"),
                cwd=checkout,
                env=clean,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            async with asyncio.timeout(START):
                host, port = await _address(log, process)
                await server
                await _until_it_serves(host, port)
            yield Side(name, host, port, backend, process, log)
        finally:
            taking.cancel()
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(10):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
            if server.done() and not server.cancelled():
                server.result().close()


async def _take_listener(
    channel: socket.socket, backend: Backend, server: asyncio.Future[asyncio.Server]
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        accepted, _ = await loop.sock_accept(channel)
        with accepted:
            accepted.setblocking(True)
            _, fds, _, _ = await asyncio.to_thread(socket.recv_fds, accepted, 1, 1)
        listener = socket.socket(fileno=fds[0])
        listener.setblocking(False)
        made = await asyncio.start_server(backend.connected, sock=listener, limit=1024 * 1024)
        if not server.done():
            server.set_result(made)


async def _address(log: Path, process: asyncio.subprocess.Process) -> tuple[str, int]:
    while True:
        text = await asyncio.to_thread(log.read_text)
        found = re.search(r"serves \d+ routes? at ([\d.]+):(\d+)", text)
        if found:
            return found[1], int(found[2])
        if process.returncode is not None:
            raise RuntimeError(f"the launcher has ended: {text[-2000:]}")
        await asyncio.sleep(0.05)


async def _until_it_serves(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /r/warm HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the launcher doesn't serve: {answer!r}")


@dataclass
class Difference:
    """A case whose two sides differ each time."""

    case: Case
    names: tuple[str, ...]
    unwanted: tuple[str, ...]
    old: Seen
    new: Seen
    token: bytes


@dataclass
class Unsteady:
    """A case whose sides differed once, and were equal in other runs."""

    case: Case
    odd: str
    """The side that showed what the other never did: a fault that isn't there each time?"""
    example: Difference


class Comparison:
    """The whole run."""

    def __init__(self, old: Side, new: Side) -> None:
        self.old, self.new = old, new
        self.unsteady: dict[tuple[str, ...], list[Unsteady]] = {}
        """Cases that differed once and not again, by what differed."""
        self.found: dict[str, list[Difference]] = {}
        """Cases by what differs in them and isn't wanted."""
        self.differing = 0
        """Those cases."""
        self.wanted: Counter[str] = Counter()
        self._tokens = 0
        self._again = asyncio.Semaphore(3)

    def token(self) -> bytes:
        """The next run's own number."""
        self._tokens += 1
        return b"%08x" % self._tokens

    async def both(self, case: Case, quiet: float) -> tuple[Facts, Facts, Seen, Seen, bytes]:
        """Carry a case out on both sides at once."""
        token = self.token()
        old, new = await asyncio.gather(
            self.old.see(case, token, quiet), self.new.see(case, token, quiet)
        )
        return facts(case, old, token), facts(case, new, token), old, new, token

    async def again(
        self,
        case: Case,
        was: set[Facts],
        now: set[Facts],
        times: int = AGAIN,
        quiet: float = PATIENT,
    ) -> Difference | None:
        """The difference, if no two runs of the sides are ever equal; `was` and `now` get what
        is seen."""
        for _ in range(times):
            before, after, old, new, token = await self.both(case, quiet)
            was.add(before)
            now.add(after)
            if was & now:
                return None
        names = tuple(differences(before, after))
        return Difference(case, names, tuple(unwanted(case, names)), old, new, token)

    async def check(self, case: Case) -> None:
        """Compare one case; what differs is looked at more closely."""
        before, after, old, new, token = await self.both(case, QUIET)
        if before == after:
            return
        names = differences(before, after)
        wrong = unwanted(case, names)
        if not wrong:
            self.wanted.update(names)
            return
        if all(len(self.found.get(name, ())) >= SEEN for name in wrong):
            self.add(Difference(case, tuple(names), tuple(wrong), old, new, token))
            return
        async with self._again:
            was, now = {before}, {after}
            found = await self.again(case, was, now)
            if found is None:
                odd = [
                    side.name
                    for side, first, others in ((self.old, before, now), (self.new, after, was))
                    if first not in others
                ]
                once = Difference(case, tuple(names), tuple(wrong), old, new, token)
                self.unsteady.setdefault(tuple(names), []).append(
                    Unsteady(case, " and ".join(odd), once)
                )
                return
            fresh = any(name not in self.found for name in found.unwanted)
            self.add(found)
            if fresh:
                show(await self.smallest(found), self.old, self.new)

    def add(self, found: Difference) -> None:
        """Count a difference."""
        self.differing += bool(found.unwanted)
        for name in found.unwanted:
            self.found.setdefault(name, []).append(found)

    async def smallest(self, found: Difference, tries: int = TRIES) -> Difference:
        """The smallest case with the same differences that a few tries find."""
        while True:
            for case in smaller(found.case):
                tries -= 1
                if tries < 0:
                    return found
                less = await self.again(case, set(), set(), 1, QUIET)
                if less is not None and less.unwanted == found.unwanted:
                    found = less
                    break
            else:
                return found

    async def run(self, all_cases: Sequence[Case], lanes: int) -> None:
        """All of them, so many at a time."""
        todo = iter(enumerate(all_cases, 1))
        began = time.monotonic()

        async def lane() -> None:
            for number, case in todo:
                try:
                    await self.check(case)
                except Exception as error:
                    raise RuntimeError(f"the tool failed with\n{described(case)}") from error
                if number % 500 == 0:
                    took = time.monotonic() - began
                    print(
                        f"{number} cases, {took:.0f} s, {len(self.found)} unwanted differences,"
                        f" {sum(map(len, self.unsteady.values()))} unsteady",
                        file=sys.stderr,
                    )

        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(lane())


def show(example: Difference, old: Side, new: Side) -> None:
    """Print a case whose sides differ, and all that both showed."""
    print("\n=== a difference")
    for one in example.names:
        print(f"  {'! ' if one in example.unwanted else '  '}{one}")
    print(described(example.case))
    for side, seen in ((old, example.old), (new, example.new)):
        print(f" {side.name}:")
        print(told(example.case, seen, example.token), flush=True)


def report(found: Comparison, count: int) -> None:
    """Print how often what differed."""
    print("\n=== in all")
    for name, cases_of_it in sorted(found.found.items(), key=lambda item: -len(item[1])):
        print(f"{len(cases_of_it):6} cases: {name}")
        notes = sorted({f"{one.case.kind}: {one.case.note}"[:60] for one in cases_of_it})
        print(f"       {' | '.join(notes[:6])}")
    for name, times in found.wanted.most_common():
        print(f"{times:6} cases, wanted: {name}")
    for side in (found.old, found.new):
        strangers = side.backend.strangers
        print(
            f"\n{side.name}: the backend had {len(strangers)} requests of no case,"
            f" and {side.backend.late} when their case was over"
        )
        for head in strangers[:3]:
            print(f"  {head[:300]!r}")
    unsteady = sorted(found.unsteady.items(), key=lambda item: -len(item[1]))
    if unsteady:
        print("\nDiffered once and not again:")
    for names, once in unsteady[:20]:
        odd = Counter(one.odd for one in once if one.odd)
        label = f"{once[0].case.kind} ({once[0].case.note})"
        print(f"  {len(once):4} {label}: {'; '.join(names)[:200]}")
        if "new" in odd and len(once) > 1:
            show(once[0].example, found.old, found.new)
        for which, times in odd.items():
            print(f"       {times} times {which} showed what the other never did")
    print(
        f"\n{count} cases: {found.differing} differ in what isn't wanted;"
        f" {sum(len(once) for _, once in unsteady)} differed once and not again"
    )


async def compare(old: Path, new: Path, all_cases: Sequence[Case], lanes: int) -> int:
    """Run everything; how many cases differ in what nobody wants."""
    with (
        tempfile.TemporaryDirectory(prefix="launcher-differential-") as one,
        tempfile.TemporaryDirectory(prefix="launcher-differential-") as other,
    ):
        async with (
            launched("old", old, Path(one)) as first,
            launched("new", new, Path(other)) as second,
        ):
            comparison = Comparison(first, second)
            await comparison.run(all_cases, lanes)
            report(comparison, len(all_cases))
            bad = comparison.differing
            for side in (first, second):
                text = side.log.read_text()
                bugs = text.count("Traceback")
                if bugs:
                    print(f"{side.name}: {bugs} tracebacks in its log, the first:")
                    start = text.index("Traceback")
                    print(text[max(0, start - 300) : start + 3000])
                if side.process.returncode is not None:
                    print(f"{side.name} has ended: {text[-2000:]}")
                    bad += 1
    return bad


def main(argv: Sequence[str] | None = None) -> None:
    """Run it, with the command line given; exit 1 for unwanted differences."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.differential", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--old", type=Path, required=True, metavar="DIR")
    parser.add_argument("--new", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=16, help="cases at the same time")
    parser.add_argument("--kind", help="only cases of this kind")
    options = parser.parse_args(argv)
    chosen = [
        one
        for one in cases(options.seed, options.count)
        if options.kind is None or one.kind == options.kind
    ]
    # What runs in the background, too, ends its launchers before itself.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        bad = asyncio.run(
            compare(
                options.old.resolve(),
                options.new.resolve(),
                chosen,
                options.lanes,
            )
        )
        sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
