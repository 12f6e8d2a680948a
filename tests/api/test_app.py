"""The application around every endpoint: paths, keys, browsers, bodies, errors, records."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from launcher.api.app import OwnPaths
from launcher.api.openapi import ENDPOINTS
from launcher.config import LauncherConfig
from launcher.core.types import BackendState, Failure
from tests.api.world import (
    CODER,
    CONFIG,
    Asking,
    FakeControl,
    a_context,
    answer_of,
    asking,
    head_of,
    until,
)
from tests.keyring import a_key, admin, api

KEYED = replace(CONFIG, keys=(*api("api"), *admin("root")))
MODEL_LISTS = ("/openai/v1/models", "/openai/models", "/v1/models")


@pytest.fixture
async def here() -> AsyncIterator[Asking]:
    async with asking() as asked:
        yield asked


def keyed(config: LauncherConfig = KEYED, control: FakeControl | None = None) -> Any:
    return asking(a_context(control, config))


# -- paths and methods


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/", "operators"),
        ("/healthz", "everywhere"),
        ("/healthz/ready", "operators"),
        ("/routes", "operators"),
        ("/status", "operators"),
        ("/mode/switch", "operators"),
        ("/admin", "operators"),
        ("/admin/", "operators"),
        ("/admin/app.js", "operators"),
        ("/openapi.json", "operators"),
        ("/api/status", "operators"),
        ("/api/routes/a%2Fb/start", "operators"),
        ("/openai/v1/models", "everywhere"),
        ("/v1/models/Qwen/Qwen2.5-Coder", "everywhere"),
        ("/v1/models/a%0Ab", "everywhere"),
        # Under `/api` there can be no route, so what isn't there is ours to refuse.
        ("/api/nothing", "operators"),
        ("/coder", None),
        ("/coder/healthz", None),
        ("/healthz/", None),
        ("/healthzz", None),
        ("/%68ealthz", None),
        ("/v1", None),
        ("/v1/chat/completions", None),
        ("/v1/modelsx", None),
        ("/v1/models/", None),
        ("/openai/v1/embeddings", None),
        ("/api", None),
        ("/api/", None),
        ("/metrics/x", None),
        ("//healthz", None),
        ("/coder/api/status", None),
        ("/v1/models\xff", None),
        ("", None),
    ],
)
def test_which_paths_are_the_launchers_own(path: str, where: str | None) -> None:
    assert OwnPaths().find(path.encode("latin-1")) == where


def test_only_models_and_health_are_everywhere() -> None:
    everywhere = {one.template for one in ENDPOINTS if one.everywhere}
    assert everywhere == {
        "/healthz",
        "/readyz",
        *MODEL_LISTS,
        *(f"{p}/{{id}}" for p in MODEL_LISTS),
    }


async def test_at_clients_addresses_operators_endpoints_are_as_if_there_were_none(
    here: Asking,
) -> None:
    here.operators = False
    for one in ENDPOINTS:
        path = re.sub(r"\{\w+\}", "x", one.template)
        answer = await here.ask(one.method, path)
        if one.everywhere:
            assert answer.status == 200 or answer.code == "unknown_model"
        else:
            assert answer.code == "unknown_route", path
    # Not even their methods are told.
    assert (await here.ask("DELETE", "/api/status")).code == "unknown_route"
    assert (await here.ask("DELETE", "/healthz")).code == "method_not_allowed"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/v1/models/coder-fast", "GET, HEAD"),
        ("GET", "/api/routes/coder/start", "POST"),
        ("HEAD", "/api/routes/coder/stop", "POST"),
        ("POST", "/api/leases/7", "DELETE, GET, HEAD, PUT"),
    ],
)
async def test_another_method_gets_405_with_those_that_would_do(
    here: Asking, method: str, path: str, allowed: str
) -> None:
    answer = await here.ask(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert answer.code == "method_not_allowed"
    assert here.records[-1].code == "method_not_allowed"


@pytest.mark.parametrize("path", ["/api/nothing", "/api/routes/coder/restart", "/admin/a/b"])
async def test_a_path_that_is_not_there_gets_404_in_the_envelope(here: Asking, path: str) -> None:
    answer = await here.get(path)
    assert (answer.status, answer.code) == (404, "unknown_route")
    assert path in answer.json["error"]["message"]


@pytest.mark.parametrize("prefix", MODEL_LISTS)
@pytest.mark.parametrize("id", ["Qwen/Qwen2.5-Coder", "Qwen%2FQwen2.5-Coder"])
async def test_a_model_id_may_hold_slashes(here: Asking, prefix: str, id: str) -> None:
    assert (await here.get(f"{prefix}/{id}")).json["id"] == "Qwen/Qwen2.5-Coder"


async def test_an_encoded_slash_is_part_of_a_name(here: Asking) -> None:
    answer = await here.post("/api/routes/a%2Fstop/start")
    assert answer.json["error"]["message"].startswith("No route of that name.")


async def test_head_gets_the_length_and_no_body(here: Asking) -> None:
    for path in ("/healthz", "/admin/app.js"):
        got, told = await here.get(path), await here.ask("HEAD", path)
        assert (told.status, told.body) == (200, b"")
        assert told.headers["content-length"] == str(len(got.body))


async def test_no_page_starts_a_backend() -> None:
    control = FakeControl()
    async with asking(a_context(control)) as here:
        for one in ENDPOINTS:
            if one.method == "GET" and "{" not in one.path and one.produces == "application/json":
                assert (await here.get(one.path)).status == 200
    assert (control.admissions, control.stops) == ([], [])


# -- who asks


@pytest.mark.parametrize(
    ("method", "path", "opening"),
    [
        ("GET", "/healthz", "none api root"),
        ("GET", "/admin", "none api root"),
        ("GET", "/v1/models", "api root"),
        ("GET", "/routes", "api root"),
        ("GET", "/metrics", "api root"),
        ("GET", "/api/status", "api root"),
        ("GET", "/api/routes/coder/plan", "api root"),
        ("GET", "/api/backends/chat/logs", "root"),
        ("POST", "/api/routes/coder/stop", "root"),
        ("POST", "/api/reload", "root"),
    ],
)
async def test_each_endpoint_asks_for_its_keys(method: str, path: str, opening: str) -> None:
    async with keyed() as here:
        for key in ("none", "wrong", "api", "root"):
            headers = {} if key == "none" else {"authorization": f"Bearer {key}"}
            answer = await here.ask(method, path, **headers)
            if "none" in opening or key in opening.split():
                assert answer.status == 200
            else:
                assert answer.code == ("missing_key" if key == "none" else "wrong_key")
                assert ("www-authenticate" in answer.headers) is (key == "none")


async def test_without_admin_keys_only_this_machine_operates(here: Asking) -> None:
    assert (await here.post("/api/routes/coder/stop")).status == 200
    here.peer = "192.0.2.7"
    assert (await here.post("/api/routes/coder/stop")).code == "wrong_key"
    here.peer = "unix"
    assert (await here.post("/api/routes/coder/stop")).status == 200
    # A proxy on this machine speaks for somebody else.
    forwarded = await here.post("/api/routes/coder/stop", x_forwarded_for="192.0.2.7")
    assert forwarded.code == "wrong_key"


async def test_a_key_sees_the_models_of_its_routes_and_is_named_in_the_record() -> None:
    alice = a_key("k", "observe", name="alice", routes=frozenset({"coder"}))
    async with keyed(replace(CONFIG, keys=(alice, *admin("root")))) as here:
        seen = (await here.get("/v1/models", x_api_key="k")).json["data"]
        assert [one["id"] for one in seen] == ["coder-fast", "Qwen/Qwen2.5-Coder"]
        assert (await here.get("/v1/models/chat", x_api_key="k")).code == "unknown_model"
        assert len((await here.get("/v1/models", x_api_key="root")).json["data"]) == 3
        assert [one.key for one in here.records] == ["alice", "alice", "root"]


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/stats", {"host": "evil.example"}, "wrong_host"),
        ("/admin", {"host": "evil.example:8000"}, "wrong_host"),
        ("/api/reload", {"host": "evil.example"}, "wrong_host"),
        ("/api/reload", {"origin": "http://evil.example"}, "cross_origin"),
        ("/api/reload", {"sec_fetch_site": "same-site"}, "cross_origin"),
        ("/api/reload", {"content_type": "text/plain"}, "unsupported_media_type"),
        ("/api/switch", {"content_type": "application/xml"}, "unsupported_media_type"),
        ("/api/status", {"x_api_key": ""}, "missing_key"),
        ("/v1/models", {"x_api_key": ""}, "missing_key"),
    ],
)
async def test_a_refusal_does_not_wait_for_the_body(
    path: str, headers: dict[str, str], code: str
) -> None:
    method = "POST" if path in ("/api/reload", "/api/switch") else "GET"
    async with keyed() as here:
        # A body is promised and never sent: who waits for it hangs.
        given = {"x_api_key": "root", "content_length": "9"} | headers
        async with here.sent(method, path, **given) as (reader, _):
            answer = await answer_of(reader)
        assert answer.code == code
        record = here.records[-1]
        assert (record.status, record.code, record.request_bytes) == (answer.status, code, 0)
        assert record.outcome == "error"


async def test_health_answers_to_any_name_and_lists_of_models_to_programs(here: Asking) -> None:
    for path in ("/healthz", "/v1/models"):
        assert (await here.get(path, host="evil.example")).status == 200
    browser = await here.get("/v1/models", host="evil.example", user_agent="Mozilla/5.0")
    assert browser.code == "wrong_host"


async def test_every_answer_tells_browsers_what_it_may_do(here: Asking) -> None:
    for path, scripts in [
        ("/healthz", False),
        ("/admin", True),
        ("/admin/index.html", True),
        ("/admin/app.js", False),
        ("/admin/", False),
        ("/api/nothing", False),
        ("/api/leases/7", False),
    ]:
        headers = (await here.get(path, origin="http://x")).headers
        assert ("script-src 'self'" in headers["content-security-policy"]) is scripts
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    async with here.sent("GET", "/api/events") as (reader, _):
        _, headers = await head_of(reader)
        assert headers["x-frame-options"] == "DENY"


async def test_a_failures_details_are_for_admins_where_keys_are_set() -> None:
    control = FakeControl()
    failed = Failure("backend_stop_failed", "still there after SIGKILL", "pid 7")
    control.put(CODER, BackendState.READY)
    control.on_stop = lambda id: control.put(id, BackendState.STOPPING, stop_failure=failed)
    async with keyed(control=control) as here:
        stop = await here.post("/api/routes/coder/stop?wait=1", x_api_key="root")
        assert stop.json["error"]["detail"] == "pid 7"
        assert "retry-after" in stop.headers
        for key, shown in (("root", True), ("api", False)):
            status = await here.get("/api/status", x_api_key=key)
            assert ("detail" in status.json["backends"][0]["stop_failure"]) is shown


async def test_a_reload_changes_the_keys_of_the_requests_to_come(here: Asking) -> None:
    assert (await here.get("/routes")).status == 200
    here.server.take(replace(KEYED, routes=CONFIG.routes[:1]))
    here.peer = "192.0.2.7"
    assert (await here.get("/routes")).code == "missing_key"
    routes = (await here.get("/routes", x_api_key="api")).json["routes"]
    assert [one["route"] for one in routes] == ["coder"]


# -- what was sent


async def test_a_body_may_have_a_mebibyte(here: Asking) -> None:
    def of(size: int) -> bytes:
        return b'{"route": "%b"}' % (b"x" * (size - 13))

    assert (await here.post("/api/drain", of(2**20))).code == "unknown_route"
    assert here.records[-1].request_bytes == 2**20
    assert (await here.post("/api/drain", of(2**20 + 1))).code == "body_too_large"


async def test_a_chunked_body_is_capped_too(here: Asking) -> None:
    chunks = b"10000\r\n%b\r\n" % (b" " * 65536) * 17 + b"0\r\n\r\n"
    chunked = {"transfer_encoding": "chunked", "content_type": "application/json"}
    async with here.sent("POST", "/api/drain", **chunked) as (reader, writer):
        writer.write(chunks)
        assert (await answer_of(reader)).code == "body_too_large"


async def test_what_was_sent_is_checked_before_the_endpoint_is_asked() -> None:
    control = FakeControl()
    async with asking(a_context(control)) as here:
        for path, body, param in [
            ("/api/drain", {"route": 1}, "route"),
            ("/api/drain", {"rout": "chat"}, "rout"),
            ("/api/routes/coder/start?wiat=1", None, "wiat"),
        ]:
            answer = await here.post(path, body)
            assert (answer.status, answer.json["error"]["param"]) == (400, param)
        assert (await here.post("/api/drain", b"{")).code == "invalid_json"
        assert not any(one.drained for one in control.backends.values())
        # Some clients put into the body what stands in the path, too.
        assert (await here.ask("PUT", "/api/leases/7", {"id": 7})).code == "stale_lease"


async def test_a_body_that_is_expected_is_asked_for_when_it_is_read(here: Asking) -> None:
    body = b'{"route": "chat"}'
    given = {"expect": "100-continue", "content_type": "application/json"}
    given["content_length"] = str(len(body))
    async with here.sent("POST", "/api/drain", **given) as (reader, writer):
        assert (await head_of(reader))[0] == 100
        writer.write(body)
        assert (await answer_of(reader)).json["routes"] == ["chat"]
    async with here.sent("POST", "/api/drain", **given, origin="http://x") as (reader, _):
        assert (await head_of(reader))[0] == 403


async def test_many_requests_go_over_one_connection(here: Asking) -> None:
    async with here.sent("GET", "/healthz") as (reader, writer):
        assert (await answer_of(reader)).status == 200
        writer.write(
            b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost:\r\n\r\n"
        )
        assert [(await answer_of(reader)).status for _ in range(2)] == [200, 200]


# -- what becomes of it


async def test_each_request_leaves_one_record(here: Asking) -> None:
    answer = await here.get("/routes?key=secret")
    record = here.records[-1]
    assert (record.method, record.path, record.route) == ("GET", "/routes", "-")
    assert (record.peer, record.status, record.outcome) == ("127.0.0.1", 200, "ok")
    assert (record.response_bytes, record.code) == (len(answer.body), "")


async def test_a_bug_is_logged_once_and_answered_with_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("sk-secret")

    control = FakeControl()
    control.snapshot = broken  # type: ignore[method-assign]
    async with asking(a_context(control)) as here:
        answer = await here.get("/readyz")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"sk-secret" not in answer.body
    assert [one.getMessage() for one in caplog.records] == ["a bug while GET /readyz was answered"]


async def test_a_client_that_leaves_ends_its_request() -> None:
    control = FakeControl()
    async with asking(a_context(control)) as here:
        admitted = asyncio.Event()
        control.on_admit = lambda _: admitted.set()
        async with here.sent("POST", "/api/routes/coder/start?wait=1"):
            await asyncio.wait_for(admitted.wait(), 60)
        await until(lambda: here.records)
        assert control.admissions[0].left
        assert (here.records[0].status, here.records[0].outcome) == (499, "client_gone")
