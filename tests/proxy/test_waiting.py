"""The page for browsers that open a cold route, and everybody else who waits as before."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.proxy import waiting
from tests.http.raw_client import RawClient, connect
from tests.http.serving import until
from tests.keyring import admin, api
from tests.proxy import awkward
from tests.proxy.house import House, Saying, a_config, a_route, get, house, post

BROWSER = ("Accept: text/html,application/xhtml+xml,*/*;q=0.8", "User-Agent: Mozilla/5.0")
FAILED = LauncherError(
    "backend_start_failed",
    "It exited with <b>code 3</b>; look at its log.",
    retry_after=4.2,
    detail="RuntimeError: out of <memory>",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(waiting, "SHORT", 0.05)
    monkeypatch.setattr(waiting, "EVERY", 0.05)
    monkeypatch.setattr(waiting, "GRACE", 0.3)
    monkeypatch.setattr(waiting, "BACK", 0.3)
    return


def follow(path: str, *headers: str) -> bytes:
    return get(path, "X-Launcher-Waiting: 1", *headers)


async def nobody_waits(here: House) -> None:
    await until(lambda: here.gate.held == [])


async def told(client: RawClient) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(await client.chunk())
    return line


async def test_a_browser_is_shown_a_page_and_keeps_its_place() -> None:
    async with house(a_config(), ready=False) as here:
        answer = await here.ask(get("/coder/app?x=1", *BROWSER))

        assert (answer.status, answer.get(b"cache-control")) == (202, b"no-store")
        page = answer.body.decode()
        assert "<title>Starting coder</title>" in page
        assert len(here.gate.held) == 1
        record = await here.record()
        assert (record.route, record.status, record.response_bytes) == (
            "coder",
            202,
            len(answer.body),
        )
        await nobody_waits(here)


async def test_the_page_runs_what_its_policy_names_and_nothing_else() -> None:
    async with house(a_config(), ready=False) as here:
        answer = await here.ask(get("/coder", *BROWSER))
        policy = (answer.get(b"content-security-policy") or b"").decode()
        assert policy.startswith("default-src 'none'; connect-src 'self'")
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.body.decode(), re.S)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        await nobody_waits(here)


@pytest.mark.parametrize(
    "headers",
    [
        ("Accept: */*",),
        ("Accept: application/json, text/html",),
        (*BROWSER, "Sec-Fetch-Mode: cors"),
        (*BROWSER, "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
        (*BROWSER, "X-Requested-With: XMLHttpRequest"),
        (),
    ],
)
async def test_who_does_not_look_at_it_waits_as_before(headers: tuple[str, ...]) -> None:
    saying = Saying()
    async with awkward.backend(saying) as seen:
        async with house(a_config(), seen.endpoint, ready=False) as here:
            await here.client.send(get("/coder/app", *headers))
            await until(lambda: len(here.gate.waiting) == 1)
            await asyncio.sleep(0.1)
            here.gate.open()
            assert (await here.client.response()).body == b"ok"


@pytest.mark.parametrize(
    "request_",
    [
        post("/coder/app", b"{}", *BROWSER),
        get("/v1/files?model=coder-fast", *BROWSER),
        get("/coder/ws", *BROWSER, "Connection: upgrade", "Upgrade: websocket"),
        get("/coder/app", *BROWSER).replace(b"GET", b"HEAD"),
    ],
    ids=["post", "by model", "websocket", "head"],
)
async def test_no_page_for_what_is_no_look_at_an_address(request_: bytes) -> None:
    async with house(a_config(), ready=False) as here:
        await here.client.send(request_)
        await until(lambda: len(here.gate.waiting) == 1)
        here.gate.refuse(FAILED)
        answer = await here.client.response("HEAD" if request_[:4] == b"HEAD" else "GET")
        assert (answer.status, answer.get(b"content-type")) == (503, b"application/json")


async def test_a_navigation_that_says_so_is_one() -> None:
    async with house(a_config(), ready=False) as here:
        answer = await here.ask(get("/coder", "Accept: */*", "Sec-Fetch-Mode: navigate"))
        assert answer.status == 202
        await nobody_waits(here)


async def test_what_is_up_in_a_moment_is_served_without_a_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "SHORT", 30.0)
    async with awkward.backend(Saying()) as seen:
        async with house(a_config(), seen.endpoint, ready=False) as here:
            await here.client.send(get("/coder", *BROWSER))
            await until(lambda: len(here.gate.waiting) == 1)
            here.gate.open()
            assert (await here.client.response()).body == b"ok"


async def test_who_is_up_is_served_at_once() -> None:
    async with awkward.backend(Saying()) as seen:
        async with house(a_config(), seen.endpoint) as here:
            assert (await here.ask(get("/coder", *BROWSER))).body == b"ok"
            assert (await here.ask(follow("/coder"))).get(b"x-launcher-waiting") is None


async def test_the_page_is_told_how_far_things_are_until_it_can_go_on() -> None:
    async with awkward.backend(Saying()) as seen:
        async with house(a_config(), seen.endpoint, ready=False) as here:
            assert (await here.ask(get("/coder", *BROWSER))).status == 202
            await here.client.send(follow("/coder"))
            head = await here.client.head()
            assert (head.status, head.get(b"x-launcher-waiting")) == (200, b"1")
            for _ in range(3):
                line = await told(here.client)
            assert line == {
                "title": "Starting coder",
                "phase": "It is being started.",
                "waited_seconds": 12.4,
                "left_seconds": 25.8,
                "spread_seconds": 4.1,
                "place": 2,
                "line": "coder <b>loads</b>",
            }
            assert len(here.gate.held) == 1

            here.gate.open()

            while line != {"ready": True}:
                line = await told(here.client)
            assert await here.client.chunk() == b""
            assert len(here.gate.held) == 1, "it is kept until the browser comes back"
            assert (await here.ask(get("/coder", *BROWSER))).body == b"ok"
            await nobody_waits(here)


async def test_the_place_is_kept_over_a_reload_and_shared_by_tabs() -> None:
    async with house(a_config(), ready=False) as here:
        for _ in range(3):
            assert (await here.ask(get("/coder", *BROWSER))).status == 202
        assert [one.left for one in here.gate.admissions] == [False, True, True]
        async with connect(here.front.addresses[0]) as other:
            await other.send(follow("/coder"))
            await told_twice(other)
            assert len(here.gate.held) == 1
        await nobody_waits(here)


async def told_twice(client: RawClient) -> None:
    await client.head()
    await told(client)
    await told(client)


async def test_a_tab_that_leaves_gives_up_its_place() -> None:
    async with house(a_config(), ready=False) as here:
        assert (await here.ask(get("/coder", *BROWSER))).status == 202
        await here.client.send(follow("/coder"))
        await told_twice(here.client)
        await asyncio.sleep(2 * waiting.GRACE)
        assert len(here.gate.held) == 1, "for as long as it follows"
        here.client.half_close()
        await nobody_waits(here)


async def test_a_place_that_has_its_turn_makes_way_for_who_comes_back() -> None:
    # With room for one at a time the place would keep the browser from what it waited for.
    async with awkward.backend(Saying()) as seen:
        async with house(a_config(), seen.endpoint, ready=False) as here:
            assert (await here.ask(get("/coder", *BROWSER))).status == 202
            (first,) = here.gate.admissions
            first.decide(here.gate.a_grant(first.ask, cold=True))
            await here.client.send(get("/coder", *BROWSER))
            await until(lambda: first.left)
            here.gate.open()
            assert (await here.client.response()).body == b"ok"


async def test_a_start_that_fails_is_told_whole_and_as_text() -> None:
    async with house(a_config(), ready=False) as here:
        assert (await here.ask(get("/coder", *BROWSER))).status == 202
        await here.client.send(follow("/coder"))
        await here.client.head()
        line = await told(here.client)
        here.gate.refuse(FAILED)
        while "error" not in line:
            line = await told(here.client)
        assert line == {
            "title": "coder isn't up",
            "error": FAILED.message,
            "detail": FAILED.detail,
        }
        assert await here.client.chunk() == b""
        # It has been told: to try again is to ask again.
        assert (await here.ask(get("/coder", *BROWSER))).status == 202
        here.gate.refuse(FAILED)
        # Nobody followed that one.
        answer = await here.ask(get("/coder", *BROWSER))
        assert (answer.status, answer.get(b"retry-after")) == (503, b"5")
        page = answer.body.decode()
        assert "It exited with &lt;b&gt;code 3&lt;/b&gt;; look at its log." in page
        assert "RuntimeError: out of &lt;memory&gt;" in page
        assert "http-equiv" not in page
        await nobody_waits(here)


async def test_who_has_no_key_learns_nothing_of_others_and_no_line_of_a_log() -> None:
    config = a_config(a_route(public=True), keys=(*api("api"), *admin("a")))
    async with house(config, Endpoint("127.0.0.1", 9), ready=False) as here:
        here.gate.progress = ("stopping secret-project for it", 3.0, None)
        assert b"secret-project" not in (await here.ask(get("/coder", *BROWSER))).body
        await here.client.send(follow("/coder"))
        await here.client.head()
        line = await told(here.client)
        assert (line["phase"], line["line"]) == ("Making room for it.", "")
        here.gate.progress = ("starting", 3.0, None)
        while line["phase"] != "It is being started.":
            line = await told(here.client)
        assert line["line"] == ""
        here.gate.refuse(FAILED)
        while "error" not in line:
            line = await told(here.client)
        assert line["detail"] == ""
        await nobody_waits(here)


async def test_without_the_key_of_a_route_there_is_no_page() -> None:
    config = a_config(keys=api("api"))
    async with house(config, ready=False) as here:
        answer = await here.ask(get("/coder", *BROWSER))
        assert (answer.status, here.gate.admissions) == (401, [])


async def test_on_a_routes_own_host_too() -> None:
    async with house(a_config(a_route(hosts=("launcher.test",))), ready=False) as here:
        assert (await here.ask(get("/stats", *BROWSER))).status == 202
        await nobody_waits(here)
