"""The main job, against a real engine: lazy starts, swaps, deaths."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.drivers import images
from tests.e2e.chatting import chat, question, words
from tests.e2e.conftest import Make
from tests.e2e.engine_log import moments, most_at_once
from tests.e2e.serving import PATIENCE, Launcher, container_route, until

pytestmark = pytest.mark.docker


async def test_a_hundred_first_requests_make_one_start(tmp_path: Path, container: Make) -> None:
    name = container("coder", START_DELAY="2")
    began = time.time()
    with Launcher(tmp_path, container_route("coder", name)) as launcher:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(number: int) -> str:
                body = question("coder" if number % 2 else name)
                path = "/coder/v1/chat/completions" if number % 3 else "/v1/chat/completions"
                body["model"] = name
                async with session.post(launcher.base + path, json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    said = await answer.json()
                    return str(said["choices"][0]["message"]["content"])

            answers = await asyncio.gather(*(ask(number) for number in range(100)))
        assert set(answers) == {"coder-0 coder-1 coder-2 coder-3 coder-4 "}
        assert [one.running for one in moments(began, name)] == [True]


async def test_alternating_exclusive_routes_get_whole_answers(
    tmp_path: Path, container: Make
) -> None:
    """200 requests of 8 clients to two routes of which one fits, long streams among them."""
    names = {one: container(one) for one in ("left", "right")}
    routes = "".join(
        container_route(one, name, lines=f'models = ["{one}"]\nmax_wait = "2s"')
        for one, name in names.items()
    )
    began = time.time()
    with Launcher(tmp_path, routes) as launcher:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(model: str, tokens: int, delay: float) -> None:
                answer = await chat(session, launcher.base, model, tokens, delay)
                assert (answer.status, answer.done) == (200, True), answer
                assert answer.text == words(model, tokens)

            async def client(number: int) -> int:
                rng = Random(number)
                for turn in range(25):
                    model = ("left", "right")[(turn + number) % 2]
                    long = rng.random() < 0.06
                    await ask(model, 60 if long else 3, 0.05 if long else 0.0)
                return 25

            done = await asyncio.gather(*(client(number) for number in range(8)))
        assert sum(done) == 200
        found = moments(began, *names.values())
        assert most_at_once(found) == 1
        assert {one.container for one in found} == set(names.values())


def test_a_backend_killed_while_idle_is_started_again(tmp_path: Path, container: Make) -> None:
    name = container("coder")
    with Launcher(tmp_path, container_route("coder", name)) as launcher:
        ask = launcher.client().chat.completions.create
        ask(model=name, messages=[{"role": "user", "content": "?"}])
        images.docker("kill", name)
        again = ask(model=name, messages=[{"role": "user", "content": "?"}])
        assert again.choices[0].message.content == "coder-0 coder-1 coder-2 coder-3 coder-4 "
        # And where the launcher had time to notice.
        images.docker("kill", name)
        until(lambda: launcher.state("coder") == "stopped", "the death is noticed")
        assert ask(model=name, messages=[{"role": "user", "content": "?"}]).choices


async def test_a_backend_killed_while_streaming_breaks_the_stream(
    tmp_path: Path, container: Make
) -> None:
    name = container("coder")
    with Launcher(tmp_path, container_route("coder", name)) as launcher:
        url = f"{launcher.base}/coder/v1/chat/completions"
        async with aiohttp.ClientSession() as session:
            body = question(name, stream=True, x_tokens=1000, x_delay=0.02)
            async with session.post(url, json=body) as answer:
                assert answer.status == 200
                await answer.content.readline()
                await asyncio.to_thread(images.docker, "kill", name)
                with pytest.raises(aiohttp.ClientError):
                    async with asyncio.timeout(PATIENCE):
                        await answer.read()
            async with session.post(url, json=question(name)) as answer:
                assert answer.status == 200, await answer.text()
        until(lambda: launcher.backend("coder")["in_flight"] == 0, "the ticket is released")


def test_what_runs_at_boot_is_adopted(tmp_path: Path, container: Make) -> None:
    name = container("coder")
    began = time.time()
    images.docker("start", name)
    with Launcher(tmp_path, container_route("coder", name)) as launcher:
        until(lambda: launcher.state("coder") == "ready", "it is adopted")
        assert launcher.get("/coder/health")[0] == 200
    assert images.show(name)["State"]["Running"], "containers stay up when the launcher ends"
    with Launcher(tmp_path, container_route("coder", name)) as launcher:
        launcher.client().chat.completions.create(
            model=name, messages=[{"role": "user", "content": "?"}]
        )
    assert [one.running for one in moments(began, name)] == [True]


def test_strangers_are_seen_within_two_seconds(tmp_path: Path, container: Make) -> None:
    """Somebody else starts a third by hand, and stops one of ours."""
    names = {one: container(one) for one in ("a", "b", "c")}
    routes = "".join(container_route(one, name) for one, name in names.items())
    with Launcher(tmp_path, routes, top="") as launcher:
        assert launcher.get("/a/v1/models")[0] == 200
        images.docker("start", names["c"])
        # One fits: the idle one makes way for what somebody wanted up.
        until(lambda: launcher.state("c") == "ready", "c is adopted", patience=5)
        until(lambda: launcher.state("a") == "stopped", "a makes way")
        images.docker("stop", "-t", "1", names["c"])
        until(lambda: launcher.state("c") == "stopped", "c's end is seen", patience=2)
        assert launcher.get("/b/v1/models")[0] == 200
        assert launcher.state("b") == "ready"
