"""The launcher is killed and started again: what ran is found warm, and nothing runs twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from launcher.drivers import orphans
from tests.drivers import images
from tests.e2e.conftest import Make
from tests.e2e.engine_log import moments, most_at_once
from tests.e2e.serving import PATIENCE, Launcher, container_route, process_route, until

pytestmark = pytest.mark.docker

TOKENS = 20


class Load:
    """Clients that stream from some routes, one answer after the other."""

    def __init__(self, launcher: Launcher, session: aiohttp.ClientSession) -> None:
        self.launcher = launcher
        self.session = session
        self.whole: Counter[str] = Counter()
        self.cut = 0
        """Connections that broke, or that nobody took."""
        self.over = False

    async def client(self, route: str) -> None:
        while not self.over:
            with contextlib.suppress(aiohttp.ClientError):
                await self.ask(route)
                self.whole[route] += 1
                continue
            self.cut += 1
            await asyncio.sleep(0.05)

    async def ask(self, route: str) -> None:
        """One stream: whole, or broken off so that one can tell."""
        url = f"{self.launcher.base}/{route}/v1/chat/completions"
        body = {"stream": True, "x_tokens": TOKENS, "x_delay": 0.01}
        async with self.session.post(url, json=body) as answer:
            said = await answer.read()
            assert answer.status == 200, said
            assert said.count(f'"{route}-'.encode()) == TOKENS
            assert said.endswith(b"data: [DONE]\n\n")

    async def everybody_is_served(self, more: int) -> None:
        """Until each route has given so many more answers."""
        goal = {route: count + more for route, count in self.whole.items()}
        await eventually(lambda: all(self.whole[route] >= n for route, n in goal.items()))


@contextlib.asynccontextmanager
async def load(launcher: Launcher, *routes: str, clients: int = 2) -> AsyncIterator[Load]:
    """Some clients for each route while the block runs; a short answer fails them."""
    timeout = aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
        made = Load(launcher, session)
        made.whole.update(dict.fromkeys(routes, 0))
        for route in routes:
            for _ in range(clients):
                group.create_task(made.client(route))
        try:
            yield made
        finally:
            made.over = True


async def eventually(look: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    found = orphans.process(pid)
    return found is not None and found.alive


def children(launcher: Launcher) -> list[int]:
    """The processes that carry this launcher's mark."""
    mark = f"{orphans.MARKER}=".encode()
    found = []
    for one in orphans.processes():
        with contextlib.suppress(OSError):
            variables = Path(f"/proc/{one.pid}/environ").read_bytes().split(b"\0")
            marks = [v.split(b".")[1] for v in variables if v.startswith(mark)]
            if one.alive and marks == [str(launcher.pid).encode()]:
                found.append(one.pid)
    return found


def measured(launcher: Launcher, *backends: str) -> dict[str, Any]:
    seen = {one: launcher.backend(one) for one in backends}
    keys = ("start_metrics", "expected_start_ms")
    return {id: {key: one[key] for key in keys} for id, one in seen.items()}


async def test_killed_under_load_it_finds_everything_again(tmp_path: Path, container: Make) -> None:
    """Two containers that serve, one that is just being started, and a process."""
    names = {one: container(one) for one in ("a", "b")}
    names["slow"] = container("slow", START_DELAY="4")
    routes = "[capacity]\ngpu = 2\n" + process_route("p", lines="needs = {}")
    for one in ("a", "b"):
        routes += container_route(one, names[one], lines="needs = { gpu = 1 }")
    routes += container_route("slow", names["slow"], lines="needs = {}")
    began = time.time()
    with Launcher(tmp_path, routes) as launcher:
        async with load(launcher, "a", "b", "p") as clients:
            await clients.everybody_is_served(3)
            start = asyncio.create_task(clients.ask("slow"))
            up = asyncio.to_thread(
                until, lambda: images.show(names["slow"])["State"]["Running"], "slow runs"
            )
            await up
            known = await asyncio.to_thread(measured, launcher, "a", "b", "p")
            child = (await asyncio.to_thread(launcher.json, "/p/stats"))["pid"]

            assert await asyncio.to_thread(children, launcher) == [child]
            launcher.kill()
            assert alive(child), "it outlives its launcher, else nothing is shown here"
            with pytest.raises(aiohttp.ClientError):
                await start
            await asyncio.to_thread(launcher.start)

            await clients.everybody_is_served(3)
            await clients.ask("slow")
            assert clients.cut >= 1
            assert not alive(child)
            (successor,) = await asyncio.to_thread(children, launcher)
            now = await asyncio.to_thread(measured, launcher, "a", "b", "p")
            assert (await asyncio.to_thread(launcher.json, "/p/stats"))["pid"] == successor
        # Adoptions are no starts: the counts and the times are the first launcher's.
        assert {one: now[one] for one in ("a", "b")} == {one: known[one] for one in ("a", "b")}
        assert known["a"]["expected_start_ms"] > 0
        assert known["a"]["start_metrics"]["start_count"] == 1
        assert now["p"]["start_metrics"]["start_count"] == 2
        until(lambda: launcher.json("/stats")["backends"]["a"]["in_flight"] == 0)
    log = moments(began, *names.values())
    assert Counter(one.container for one in log) == dict.fromkeys(names.values(), 1)
    assert all(one.running for one in log)
    assert not alive(successor), "a launcher that ends as it should takes its children along"


async def test_killed_in_the_middle_of_a_swap(tmp_path: Path, container: Make) -> None:
    """The engine goes on stopping the one; the other is started by the next launcher, once it
    fits."""
    left = container("left", TERM_DELAY="3")
    right = container("right")
    routes = container_route("left", left) + container_route("right", right)
    began = time.time()
    with Launcher(tmp_path, routes) as launcher:
        async with load(launcher, "left", clients=1) as clients:
            await clients.everybody_is_served(1)
        async with aiohttp.ClientSession() as session:
            ask = Load(launcher, session).ask
            waiting = asyncio.create_task(ask("right"))
            await asyncio.to_thread(
                until, lambda: launcher.state("left") == "stopping", "left is stopping"
            )
            launcher.kill()
            with pytest.raises(aiohttp.ClientError):
                await waiting
            await asyncio.to_thread(launcher.start)
            await ask("right")
        assert launcher.state("left") in ("stopped", "failed")
    log = moments(began, left, right)
    assert most_at_once(log) == 1
    assert [(one.container, one.running) for one in log] == [
        (left, True),
        (left, False),
        (right, True),
    ]
