"""A launcher whose configuration changes again and again while it is used."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from launcher import tasks
from tests.drivers import images
from tests.e2e.chatting import question
from tests.e2e.conftest import Make
from tests.e2e.serving import Launcher, container_route, process_route, until

RELOADS = 1000
#: Requests a second, to routes that stay.
RATE = 200
#: And so many at a time, where the machine is too busy for that.
AT_MOST = 64
KEY = {"Authorization": "Bearer sk-stay"}
MIB = 1024**2


@dataclass
class Load:
    """Requests at a steady rate."""

    base: str
    sent: int = 0
    streams: int = 0
    failures: list[str] = field(default_factory=list)

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Until it is cancelled; those under way are then waited for."""
        loop = asyncio.get_running_loop()
        under_way: set[asyncio.Task[None]] = set()
        due = loop.time()
        try:
            while True:
                # What a machine is too busy for now isn't made up for later, all at once.
                due = max(due, loop.time() - 0.1)
                while due <= loop.time() and len(under_way) < AT_MOST:
                    one = tasks.spawn(self._ask(session, self.sent), name="request")
                    under_way.add(one)
                    one.add_done_callback(under_way.discard)
                    self.sent += 1
                    due += 1 / RATE
                await asyncio.sleep(0.005)
        finally:
            if under_way:
                await asyncio.wait(under_way)

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        model = ("stay", "boxed")[number % 2]
        stream = number % 40 < 2
        self.streams += stream
        more = {"stream": True, "x_tokens": 30, "x_delay": 0.02} if stream else {}
        prefix = ("/openai/v1", f"/{model}/v1")[number % 3 == 0]
        url = f"{self.base}{prefix}/chat/completions"
        try:
            async with session.post(url, json=question(model, **more), headers=KEY) as answer:
                text = await answer.text()
                whole = text.rstrip().endswith("data: [DONE]") if stream else "choices" in text
                if answer.status != 200 or not whole:
                    self.failures.append(f"{number} {url}: {answer.status} {text[-300:]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{number} {url}: {error!r}")


class Changing:
    """A configuration, of which `change` changes something each time."""

    def __init__(self, launcher: Launcher, container: str) -> None:
        self.launcher = launcher
        self.container = container
        self.values: dict[str, Any] = {
            "idle": 600,
            "models": ["boxed"],
            "temp": 0,
            "key": 0,
            "gpu": 2,
            "wait": 60,
        }

    def text(self) -> str:
        now = self.values
        keys = json.dumps(["sk-stay", f"sk-{now['key']}"])
        top = f'[launcher]\nlisten = ["127.0.0.1:0"]\napi_keys = {keys}\n'
        one = "needs = { gpu = 1 }\n"
        stay = f"{one}idle_timeout = {now['idle']}\nmax_wait = {now['wait']}"
        routes = process_route("stay", lines=stay)
        models = f"models = {json.dumps(now['models'])}"
        routes += container_route("boxed", self.container, lines=f"{one}{models}")
        if now["temp"]:
            routes += process_route(f"temp-{now['temp']}", lines="needs = {}")
        return f"{top}[capacity]\ngpu = {now['gpu']}\n{routes}"

    def change(self, number: int) -> None:
        """Write it, changed, as an editor does."""
        match number % 6:
            case 0:
                self.values["idle"] = 600 + number
            case 1:
                self.values["models"] = ["boxed", f"boxed-{number}"]
            case 2:
                self.values["temp"] = number
            case 3:
                self.values["key"] = number
            case 4:
                self.values["gpu"] = 5 - self.values["gpu"]
            case _:
                self.values["wait"] = 60 + number
                self.values["temp"] = 0
        new = self.launcher.file.with_suffix(".new")
        new.write_text(self.text())
        new.replace(self.launcher.file)


async def a_thousand(
    launcher: Launcher, changing: Changing, load: Load
) -> tuple[list[float], list[float], dict[int, int]]:
    """The reloads; milliseconds of each by the launcher's own word, milliseconds that the
    caller waited, and its memory on the way."""
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    inside, outside, memory = [], [], {}
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        loading = tasks.spawn(load.run(session), name="load")
        for number in range(1, RELOADS + 1):
            changing.change(number)
            began = loop.time()
            async with session.post(f"{launcher.base}/api/reload", headers=KEY) as answer:
                said = await answer.json()
                assert answer.status == 200, said
            outside.append((loop.time() - began) * 1000)
            inside.append(said["duration_ms"])
            assert said["changed"], (number, said)
            assert said["backends"]["replaced"] == []
            if number % 60 == 2:
                # One that comes is used, and goes while it runs.
                url = f"{launcher.base}/temp-{number}/v1/models"
                async with session.get(url, headers=KEY) as answer:
                    assert answer.status == 200, await answer.text()
            if number % 100 == 0:
                memory[number] = launcher.memory()
        await tasks.cancel(loading)
    return inside, outside, memory


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_reloads_fail_no_request_and_restart_nothing(
    tmp_path: Path, container: Make
) -> None:
    name = container("boxed")
    with Launcher(tmp_path, "") as launcher:
        changing = Changing(launcher, name)
        changing.launcher.file.write_text(changing.text())
        until(lambda: launcher.request("POST", "/api/reload")[0] == 200, "the first reload")
        for model in ("stay", "boxed"):
            body = json.dumps(question(model)).encode()
            kind = {"Content-Type": "application/json", **KEY}
            assert launcher.request("POST", "/v1/chat/completions", body, **kind)[0] == 200
        before, started = series_of(launcher), images.show(name)["State"]["StartedAt"]
        load = Load(launcher.base)
        inside, outside, memory = asyncio.run(a_thousand(launcher, changing, load))
        print(
            f"{RELOADS} reloads, {load.sent} requests, {load.streams} of them streams; "
            f"ms by itself {spread(inside)}, for the caller {spread(outside)}; "
            f"MiB {[round(one / MIB) for one in memory.values()]}"
        )
        assert load.failures == []
        assert images.show(name)["State"]["StartedAt"] == started
        changing.change(5)  # the last one that came goes
        assert launcher.request("POST", "/api/reload", **KEY)[0] == 200
        status = json.loads(launcher.get("/api/status", **KEY)[1])
        starts = {one["backend"]: one["start_metrics"]["start_count"] for one in status["backends"]}
        assert starts == {"stay": 1, "boxed": 1}
        assert stops(launcher) == []
        until(lambda: series_of(launcher) == before, "nothing is counted of those that came")
        assert "crashed" not in launcher.log()
        assert "Traceback" not in launcher.log()
        grown = memory[RELOADS] - memory[300]
        assert grown < 16 * MIB, f"{grown / MIB:.1f} MiB more after {RELOADS - 300} reloads"


def series_of(launcher: Launcher) -> set[str]:
    """Names of routes and backends in Prometheus' labels."""
    text = launcher.get("/metrics", **KEY)[1].decode()
    return {
        part
        for line in text.splitlines()
        if line.startswith("launcher_") and "{" in line
        for part in line.partition("{")[2].partition("}")[0].split(",")
        if part.startswith(("route=", "backend="))
    }


def stops(launcher: Launcher) -> list[str]:
    """Stops of what is configured."""
    text = launcher.get("/metrics", **KEY)[1].decode()
    lines = [line for line in text.splitlines() if line.startswith("launcher_stops_total{")]
    return [line for line in lines if not line.endswith(" 0.0")]


def spread(times: Iterable[float]) -> str:
    found = sorted(times)
    at = found[int(len(found) * 0.99)]
    return f"{statistics.median(found):.0f} (99 %: {at:.0f}, most: {found[-1]:.0f})"


def configure(launcher: Launcher, text: str) -> None:
    """Another configuration, written as most editors do."""
    new = launcher.file.with_suffix(".new")
    new.write_text(f'[launcher]\nlisten = ["127.0.0.1:0"]\n{text}')
    new.replace(launcher.file)


def told(launcher: Launcher, part: str) -> bool:
    """Whether the log has a line like this about a reload."""
    lines = [line for line in launcher.lines() if line["logger"] == "launcher.config.reload"]
    return any(part in line["message"] or part in line.get("detail", "") for line in lines)


def test_sighup(tmp_path: Path) -> None:
    with Launcher(tmp_path, process_route("one")) as launcher:
        assert launcher.get("/one/v1/models")[0] == 200
        configure(launcher, process_route("one") + process_route("two", lines="needs = {}"))
        os.kill(launcher.pid, signal.SIGHUP)
        until(lambda: told(launcher, "added route two; added backend two"))
        assert launcher.get("/two/v1/models")[0] == 200
        configure(launcher, process_route("one") + "[routes.three]\nport = 3\n[route]\n")
        os.kill(launcher.pid, signal.SIGHUP)
        until(lambda: told(launcher, "nothing was changed: 2 problems"))
        assert told(launcher, "[routes.three]: names nothing to start")
        assert launcher.get("/two/v1/models")[0] == 200
        status, body = launcher.request("POST", "/api/reload")
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (422, "bad_configuration")
        configure(launcher, process_route("one"))
        os.kill(launcher.pid, signal.SIGHUP)
        until(lambda: told(launcher, "removed route two; removed backend two"))
        assert launcher.get("/two/v1/models")[0] == 404
        assert launcher.backend("one")["start_metrics"]["start_count"] == 1


def test_nohup(tmp_path: Path) -> None:
    with Launcher(tmp_path, process_route("one"), before=("nohup",)) as launcher:
        os.kill(launcher.pid, signal.SIGHUP)
        assert launcher.request("POST", "/api/reload")[0] == 200
        until(lambda: told(launcher, "reload (POST /api/reload)"))
        assert not told(launcher, "SIGHUP")


def test_watched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-one")
    text = f'api_keys = ["file:{secret}"]\n'
    with Launcher(tmp_path, process_route("one"), top=text, options=("--watch",)) as launcher:
        assert launcher.get("/one/v1/models", **{"X-API-Key": "sk-one"})[0] == 200
        secret.write_text("sk-two")
        until(lambda: told(launcher, "reload (a file has changed)"))
        assert launcher.get("/one/v1/models", **{"X-API-Key": "sk-one"})[0] == 403
        assert launcher.get("/one/v1/models", **{"X-API-Key": "sk-two"})[0] == 200
        configure(launcher, text + process_route("one") + process_route("two"))
        until(lambda: told(launcher, "added route two"))
        assert "sk-two" not in launcher.log()


@pytest.mark.docker
def test_a_container_that_is_replaced_serves_what_runs_and_then_who_waits(
    tmp_path: Path, container: Make
) -> None:
    old, new = container("old"), container("new")
    with Launcher(tmp_path, container_route("one", old, lines='models = ["m"]')) as launcher:
        stream = json.dumps(question("m", stream=True, x_tokens=60, x_delay=0.05)).encode()
        short = json.dumps(question("m")).encode()
        kind = {"Content-Type": "application/json"}

        def ask(body: bytes) -> str:
            status, text = launcher.request("POST", "/v1/chat/completions", body, **kind)
            assert status == 200, text
            return text.decode()

        assert "old-0" in ask(short)
        with ThreadPoolExecutor(8) as pool:
            running = pool.submit(ask, stream)
            until(lambda: launcher.backend("one")["in_flight"] == 1, "a stream runs")
            configure(launcher, container_route("one", new, lines='models = ["m"]'))
            status, body = launcher.request("POST", "/api/reload")
            assert (status, json.loads(body)["backends"]["replaced"]) == (200, ["one"])
            waiting = [pool.submit(ask, short) for _ in range(5)]
            text = running.result()
            assert text.rstrip().endswith("data: [DONE]")
            assert "old-59" in text
            assert all("new-0" in one.result() for one in waiting)
        assert not images.show(old)["State"]["Running"]
        # A table under another name is the same container still.
        configure(launcher, container_route("renamed", new, lines='models = ["m"]'))
        since = images.show(new)["State"]["StartedAt"]
        said = json.loads(launcher.request("POST", "/api/reload")[1])
        assert said["routes"] == {"added": ["renamed"], "removed": ["one"], "changed": {}}
        assert "new-0" in ask(short)
        assert images.show(new)["State"]["StartedAt"] == since
