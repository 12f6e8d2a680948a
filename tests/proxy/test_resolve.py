"""Which route a request belongs to, and in what shape it gets there, over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from launcher.config import AliasConfig, LauncherConfig, ModelSpec
from launcher.errors import LauncherError
from launcher.proxy.router import Candidate, Router
from tests.http.raw_client import Response
from tests.keyring import a_key, api
from tests.proxy.awkward import backend
from tests.proxy.house import House, Saying, a_config, a_route, get, house

COMFY = a_route(name="comfy", prefixes=("/comfy",), hosts=("comfy.lan",), models=(), public=True)
JSON = "Content-Type: application/json"
FORM = "Content-Type: multipart/form-data; boundary=XX"


def sending(path: str, body: bytes = b"", *headers: str, host: str = "launcher.test") -> bytes:
    """A GET, or with a body a POST."""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {host}"]
    if body and not any(line.startswith("Transfer-Encoding") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


@asynccontextmanager
async def resolving(config: LauncherConfig | None = None) -> AsyncIterator[tuple[House, Saying]]:
    """The proxy in front of a backend that keeps what it is sent."""
    said = Saying()
    async with backend(said) as there:
        async with house(config or a_config(a_route(), COMFY), there.endpoint) as here:
            yield here, said


def code_of(answer: Response) -> str:
    code: str = json.loads(answer.body)["error"]["code"]
    return code


async def test_by_model_in_json() -> None:
    body = b'{"model":"coder-fast","stream":true}'
    async with resolving() as (here, said):
        assert (
            await here.ask(sending("/openai/v1/chat/completions?x=%41", body, JSON))
        ).status == 200
        record = await here.record()
    assert (record.route, record.model) == ("coder", "coder-fast")
    assert said.heads[0].startswith(b"POST /v1/chat/completions?x=%41 HTTP/1.1\r\n")
    assert said.bodies == [body]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (
            b'{ "a" : 1.0,"model"\t: "gpt-\\u0034o" ,"z":[ ] }',
            b'{ "a" : 1.0,"model"\t: "Qwen/Qwen2.5-7B" ,"z":[ ] }',
        ),
        (b'{"model": "gpt-4o", "x": NaN}', b'{"model": "Qwen/Qwen2.5-7B", "x": NaN}'),
        (
            b'{"x": {"model": "no"}, "mod\\u0065l": "gpt-4o"}',
            b'{"x": {"model": "no"}, "mod\\u0065l": "Qwen/Qwen2.5-7B"}',
        ),
    ],
)
async def test_only_the_models_bytes_are_replaced(body: bytes, sent: bytes) -> None:
    async with resolving() as (here, said):
        assert (await here.ask(sending("/v1/chat/completions", body, JSON))).status == 200
        assert (await here.record()).model == "gpt-4o"
    assert said.bodies == [sent]
    assert said.header(b"content-length") == b"%d" % len(sent)


async def test_by_model_in_a_form() -> None:
    body = b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o\r\n--XX--\r\n'
    async with resolving() as (here, said):
        assert (await here.ask(sending("/v1/audio/transcriptions", body, FORM))).status == 200
    assert said.bodies == [body.replace(b"gpt-4o", b"Qwen/Qwen2.5-7B")]


async def test_by_model_in_the_query() -> None:
    async with resolving() as (here, said):
        assert (await here.ask(sending("/v1/realtime?a=%zz&mod%65l=gpt%2D4o&b"))).status == 200
    line = b"GET /v1/realtime?a=%zz&mod%65l=Qwen%2FQwen2.5-7B&b HTTP/1.1\r\n"
    assert said.heads[0].startswith(line)


async def test_a_body_without_a_model_leaves_it_to_the_query() -> None:
    async with resolving() as (here, said):
        request = sending("/v1/embeddings?model=coder-fast", b'{"input":"x"}', JSON)
        assert (await here.ask(request)).status == 200
    assert said.bodies == [b'{"input":"x"}']


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
async def test_json_under_any_name(kind: str) -> None:
    async with resolving() as (here, _):
        request = sending("/v1/x", b'{"model":"coder-fast"}', f"Content-Type: {kind}")
        assert (await here.ask(request)).status == 200
        assert (await here.record()).model == "coder-fast"


REFUSED: list[tuple[str, bytes, list[str], str]] = [
    ("/v1/x", b"{nonsense", [JSON], "invalid_json"),
    ("/v1/x", b'{"model":"coder-fast","model":"coder-fast"}', [JSON], "invalid_json"),
    ("/v1/x", b'{"mod\\u0065l":"coder-fast","model":"coder-fast"}', [JSON], "invalid_json"),
    ("/v1/x", b"{}", [JSON], "missing_model"),
    ("/v1/x", b'{"model":7}', [JSON], "missing_model"),
    ("/v1/x", b'{"model":""}', [JSON], "missing_model"),
    ("/v1/x", b"", [], "missing_model"),
    ("/v1/x", b"RIFF", ["Content-Type: audio/wav"], "missing_model"),
    ("/v1/x", b'{"model":"gpt-5"}', [JSON], "unknown_model"),
    ("/v1/x?model=a&model=b", b"", [], "bad_request"),
    ("/v1/x", b"x", ["Content-Type: multipart/form-data"], "bad_request"),
    ("/v1/x", b"x", [JSON, "Content-Encoding: gzip"], "unsupported_encoding"),
    ("/openai/../x", b"", [], "bad_target"),
    ("/coder/../chat", b"", [], "bad_target"),
    ("/coder/%2e%2e/chat", b"", [], "bad_target"),
    ("/coderx", b"", [], "unknown_route"),
    ("/", b"", [], "unknown_route"),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(("path", "body", "headers", "code"), REFUSED)
async def test_refused(
    path: str, body: bytes, headers: list[str], code: str, chunked: bool
) -> None:
    if chunked and body:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        headers = [*headers, "Transfer-Encoding: chunked"]
    async with resolving() as (here, said):
        assert code_of(await here.ask(sending(path, body, *headers))) == code
        assert here.gate.admissions == []
    assert said.heads == []


async def test_messages_say_what_there_is() -> None:
    async with resolving() as (here, _):
        answer = await here.ask(sending("/v1/x", b'{"model":"a\\nb"}', JSON))
        error = json.loads(answer.body)["error"]
        assert "coder-fast, gpt-4o" in error["message"]
        assert "\n" not in error["message"]
        assert error["param"] == "model"
        assert b"/coder, /comfy" in (await here.ask(sending("/nowhere"))).body


async def test_a_compressed_body_travels_where_the_query_names_the_model() -> None:
    async with resolving() as (here, said):
        request = sending("/v1/x?model=coder-fast", b"\x1f\x8b", JSON, "Content-Encoding: gzip")
        assert (await here.ask(request)).status == 200
    assert said.bodies == [b"\x1f\x8b"]


async def test_too_large_is_refused_unread() -> None:
    async with resolving(a_config(max_body=100)) as (here, _):
        lines = ["POST /v1/x HTTP/1.1", "Host: a", JSON, "Content-Length: 10000000", "", ""]
        answer = await here.ask("\r\n".join(lines).encode())
        assert (answer.status, code_of(answer)) == (413, "body_too_large")
        assert (await here.record()).request_bytes == 0


async def test_keys_are_asked_for_before_a_byte_is_read() -> None:
    config = a_config(a_route(), COMFY, keys=api("k"))
    for path in ("/v1/x", "/coder/x", "/nowhere"):
        async with resolving(config) as (here, _):
            lines = [f"POST {path} HTTP/1.1", "Host: a", JSON, "Content-Length: 9999", "", ""]
            assert code_of(await here.ask("\r\n".join(lines).encode())) == "missing_key"
    async with resolving(config) as (here, _):
        assert (await here.ask(sending("/comfy/"))).status == 200
        assert (await here.ask(sending("/coder/", b"", "X-API-Key: k"))).status == 200


async def test_a_host_is_a_route() -> None:
    async with resolving() as (here, said):
        await here.ask(sending("/v1/models/../x", host="Comfy.LAN:8188"))
        assert (await here.record()).route == "comfy"
        assert said.heads[0].startswith(b"GET /v1/models/../x HTTP/1.1\r\n")
        assert said.header(b"x-forwarded-prefix") is None
        assert code_of(await here.ask(sending("/../x", host="comfy.lan"))) == "bad_target"
        assert (await here.ask(sending("/x", host="other"))).status == 404


class TestAKeyOfSomeRoutes:
    """`alice` is for coder alone, whose model has a brother elsewhere."""

    OTHER = a_route(name="chat", prefixes=("/chat",), models=(ModelSpec("chat-large"),))
    KEY = "X-API-Key: alice"

    @pytest.fixture
    def config(self) -> LauncherConfig:
        alice = a_key("alice", routes=frozenset({"coder"}))
        any_of = AliasConfig("any", ("chat-large", "coder-fast"))
        return a_config(
            a_route(),
            self.OTHER,
            keys=(alice, a_key("bob")),
            aliases=(any_of, AliasConfig("big", ("chat-large",))),
        )

    async def test_another_routes_path_is_refused(self, config: LauncherConfig) -> None:
        async with resolving(config) as (here, _):
            # Also where the key is known from a request before.
            assert (await here.ask(sending("/coder/x", b"", self.KEY))).status == 200
            body = b'{"model":"chat-large"}'
            answer = await here.ask(sending("/chat/x", body, JSON, self.KEY))
            assert code_of(answer) == "wrong_key"

    @pytest.mark.parametrize("model", ["chat-large", "big"])
    async def test_nor_is_its_model_for_it(self, config: LauncherConfig, model: str) -> None:
        async with resolving(config) as (here, _):
            body = json.dumps({"model": model}).encode()
            assert code_of(await here.ask(sending("/v1/x", body, JSON, self.KEY))) == "wrong_key"
            assert (await here.ask(sending(f"/v1/x?model={model}", b"", self.KEY))).status == 403

    async def test_of_an_alias_it_has_what_it_may_use(self, config: LauncherConfig) -> None:
        router = Router(config)
        for allowed, routes in ((frozenset({"coder"}), ["coder"]), (None, ["chat", "coder"])):
            found = router.of_model("any", allowed)
            assert [one.route.name for one in found.candidates] == routes

    async def test_it_is_told_of_its_own_alone(self, config: LauncherConfig) -> None:
        async with resolving(config) as (here, _):
            for path in ("/v1/x?model=no", "/v1/x", "/nowhere"):
                answer = await here.ask(sending(path, b"", self.KEY))
                assert b"chat" not in answer.body
                assert b"coder" in answer.body


class TestPagesFromElsewhere:
    ELSEWHERE = "Origin: http://evil.example"

    async def test_are_refused(self) -> None:
        async with resolving() as (here, _):
            for path in ("/v1/x", "/coder/x", "/nowhere"):
                request = sending(path, b'{"model":"coder-fast"}', JSON, self.ELSEWHERE)
                assert code_of(await here.ask(request)) == "cross_origin"
            assert (await here.ask(sending("/comfy/x", b"x", self.ELSEWHERE))).status == 200

    async def test_a_key_is_more_than_they_have(self) -> None:
        async with resolving(a_config(a_route(), COMFY, keys=api("k"))) as (here, _):
            request = sending("/coder/x", b"x", self.ELSEWHERE, "X-API-Key: k")
            assert (await here.ask(request)).status == 200

    async def test_a_rebound_name_is_refused(self) -> None:
        async with resolving() as (here, _):
            for path in ("/v1/x?model=coder-fast", "/coder/x"):
                request = sending(path, b"", "User-Agent: Mozilla/5.0", host="evil.example")
                assert code_of(await here.ask(request)) == "wrong_host"


async def test_long_lists_end_somewhere() -> None:
    models = tuple(ModelSpec(f"model-{i}") for i in range(500))
    with pytest.raises(LauncherError, match="and 450 more"):
        Router(a_config(a_route(models=models))).of_model(None, None)


def test_an_alias_is_all_its_models_in_their_order() -> None:
    other = a_route(name="chat", prefixes=("/chat",), models=(ModelSpec("chat"),))
    config = a_config(a_route(), other, aliases=(AliasConfig("any", ("chat", "gpt-4o")),))
    found = Router(config).of_model("any", None)
    assert (found.asked, found.only) == ("any", "coder")
    assert found.candidates == (
        Candidate(other, ModelSpec("chat")),
        Candidate(a_route(), ModelSpec("gpt-4o", "Qwen/Qwen2.5-7B")),
    )
    with pytest.raises(LauncherError, match=r"coder-fast, gpt-4o, chat, any\."):
        Router(config).of_model("anything", None)


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        (b"/coder", b"/coder", b"/"),
        (b"/coder/", b"/coder", b"/"),
        (b"/coder/a//b", b"/coder", b"/a//b"),
        (b"/v2/coder/x", b"/v2/coder", b"/x"),
        (b"/v2/coder/deep/x", b"/v2/coder/deep", b"/x"),
    ],
)
def test_the_longest_prefix_on_a_segment_boundary(path: bytes, prefix: bytes, rest: bytes) -> None:
    route: Any = a_route(prefixes=("/coder", "/v2/coder", "/v2/coder/deep"))
    target = Router(a_config(route)).of_path(path)
    assert target is not None
    assert (target.prefix, target.path) == (prefix, rest)


@pytest.mark.parametrize("path", [b"/", b"/coderx", b"/%63oder", b"/v2", b"/x/coder"])
def test_what_is_no_prefix(path: bytes) -> None:
    assert Router(a_config(a_route(prefixes=("/coder", "/v2/coder")))).of_path(path) is None


async def test_a_path_is_remembered_and_answers_the_same() -> None:
    async with resolving() as (here, said):
        for _ in range(3):
            assert (await here.ask(get("/coder/x?y"))).status == 200
    assert {head.partition(b"\r\n")[0] for head in said.heads} == {b"GET /x?y HTTP/1.1"}
