"""Which route a request belongs to, and in what shape its body goes there."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.auth.access import Access, Caller
from launcher.auth.browsers import Guard
from launcher.auth.meters import Meters
from launcher.config import AliasConfig, LauncherConfig, ModelSpec, RouteConfig
from launcher.core.routing import RouteTable
from launcher.errors import LauncherError
from launcher.proxy.body import Budget, KeptBody, StreamedBody
from launcher.proxy.resolve import Resolver
from launcher.proxy.resolved import Candidate, Resolved
from tests.keyring import a_key, api
from tests.proxy.fake_exchange import request
from tests.proxy.house import CODER, a_config, a_route
from tests.proxy.sending import Sending

COMFY = a_route(name="comfy", prefixes=("/comfy",), hosts=("comfy.lan",), models=(), public=True)


def a_resolver(config: LauncherConfig | None = None) -> Resolver:
    config = config or a_config(a_route(), COMFY)
    table: RouteTable[RouteConfig] = RouteTable(config.routes)
    return Resolver(config, table, Guard(config.allowed_hosts), Budget(config.max_buffered))


def caller(exchange: Sending, config: LauncherConfig | None = None) -> Caller:
    keys = config.keys if config is not None else ()
    return Access(keys, Meters()).caller(exchange.head)


def sending(
    path: bytes, body: bytes = b"", *headers: tuple[bytes, bytes], **fields: Any
) -> Sending:
    query: bytes | None
    path, mark, query = path.partition(b"?")
    exchange = Sending(*([body] if body else []))
    length = fields.pop("content_length", len(body) or None)
    exchange.head = request(
        fields.pop("method", "POST" if body else "GET"),
        path=path,
        query=query if mark else None,
        headers=headers,
        content_length=length,
        **fields,
    )
    return exchange


async def resolved(exchange: Sending, config: LauncherConfig | None = None) -> Resolved:
    """As it is when its one backend has been granted."""
    found = await a_resolver(config).on_path(exchange, caller(exchange, config))
    found.settle(CODER)
    return found


async def refused(exchange: Sending, config: LauncherConfig | None = None) -> LauncherError:
    resolver = a_resolver(config)
    with pytest.raises(LauncherError) as caught:
        await resolver.on_path(exchange, caller(exchange, config))
    assert resolver.budget.used == 0
    return caught.value


JSON = (b"Content-Type", b"application/json")
FORM = (b"Content-Type", b"multipart/form-data; boundary=XX")


async def test_by_model_in_json() -> None:
    body = b'{"model":"coder-fast","stream":true}'
    found = await resolved(sending(b"/openai/v1/chat/completions?x=%41", body, JSON))
    assert (found.route.name, found.path, found.query) == (
        "coder",
        b"/v1/chat/completions",
        b"x=%41",
    )
    assert found.chosen.model == ModelSpec("coder-fast")
    assert found.stream is True
    assert isinstance(found.body, KeptBody)
    assert await found.body.whole() == body


async def test_only_the_models_bytes_are_replaced() -> None:
    body = b'{ "a" : 1.0,"model"\t: "gpt-\\u0034o" ,"z":[ ] }'
    found = await resolved(sending(b"/v1/chat/completions", body, JSON))
    assert isinstance(found.body, KeptBody)
    assert await found.body.whole() == b'{ "a" : 1.0,"model"\t: "Qwen/Qwen2.5-7B" ,"z":[ ] }'
    assert found.asked == "gpt-4o"


async def test_by_model_in_a_form() -> None:
    body = b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o\r\n--XX--\r\n'
    found = await resolved(sending(b"/v1/audio/transcriptions", body, FORM))
    assert isinstance(found.body, KeptBody)
    assert await found.body.whole() == body.replace(b"gpt-4o", b"Qwen/Qwen2.5-7B")


async def test_by_model_in_the_query() -> None:
    found = await resolved(sending(b"/v1/realtime?a=%zz&mod%65l=gpt%2D4o&b"))
    assert found.query == b"a=%zz&mod%65l=Qwen%2FQwen2.5-7B&b"
    assert isinstance(found.body, StreamedBody)


async def test_a_body_without_a_model_leaves_it_to_the_query() -> None:
    body = b'{"input":"x"}'
    found = await resolved(sending(b"/v1/embeddings?model=coder-fast", body, JSON))
    assert found.chosen.model == ModelSpec("coder-fast")
    assert isinstance(found.body, KeptBody)
    assert await found.body.whole() == body


@pytest.mark.parametrize("kind", [b"application/x-www-form-urlencoded", b"text/plain", b""])
async def test_json_under_any_name(kind: bytes) -> None:
    exchange = sending(b"/v1/x", b'{"model":"coder-fast"}', (b"Content-Type", kind))
    assert (await resolved(exchange)).chosen.model == ModelSpec("coder-fast")


@pytest.mark.parametrize(
    ("path", "body", "headers", "code"),
    [
        (b"/v1/x", b"{nonsense", [JSON], "invalid_json"),
        (b"/v1/x", b'{"model":"coder-fast","model":"coder-fast"}', [JSON], "invalid_json"),
        (b"/v1/x", b"{}", [JSON], "missing_model"),
        (b"/v1/x", b'{"model":7}', [JSON], "missing_model"),
        (b"/v1/x", b'{"model":""}', [JSON], "missing_model"),
        (b"/v1/x", b"", [], "missing_model"),
        (b"/v1/x", b"RIFF", [(b"Content-Type", b"audio/wav")], "missing_model"),
        (b"/v1/x", b'{"model":"gpt-5"}', [JSON], "unknown_model"),
        (b"/v1/x?model=a&model=b", b"", [], "bad_request"),
        (b"/v1/x", b"x", [(b"Content-Type", b"multipart/form-data")], "bad_request"),
        (b"/v1/x", b"x", [JSON, (b"Content-Encoding", b"gzip")], "unsupported_encoding"),
        (b"/openai/../x", b"", [], "bad_target"),
        (b"/coder/../chat", b"", [], "bad_target"),
        (b"/coder/%2e%2e/chat", b"", [], "bad_target"),
        (b"/coderx", b"", [], "unknown_route"),
        (b"/", b"", [], "unknown_route"),
    ],
)
async def test_refused(path: bytes, body: bytes, headers: Any, code: str) -> None:
    assert (await refused(sending(path, body, *headers))).code == code


async def test_messages_say_what_there_is() -> None:
    unknown = await refused(sending(b"/v1/x", b'{"model":"a\\nb"}', JSON))
    assert "coder-fast, gpt-4o" in unknown.message
    assert "\n" not in unknown.message
    assert unknown.param == "model"
    assert "/coder, /comfy" in (await refused(sending(b"/nowhere"))).message


async def test_a_compressed_body_travels_where_the_query_names_the_model() -> None:
    gzip = (b"Content-Encoding", b"gzip")
    found = await resolved(sending(b"/v1/x?model=coder-fast", b"\x1f\x8b", JSON, gzip))
    assert isinstance(found.body, StreamedBody)


async def test_too_large_is_refused_unread() -> None:
    config = a_config(max_body=100)
    exchange = sending(b"/v1/x", b"x", JSON, content_length=101)
    assert (await refused(exchange, config)).code == "body_too_large"
    assert exchange.reads == 0


async def test_on_a_routes_path_small_json_is_kept_and_all_else_streamed() -> None:
    kept = await resolved(sending(b"/coder/v1/x", b"not json", JSON))
    assert isinstance(kept.body, KeptBody)
    assert (kept.path, kept.prefix, kept.stream) == (b"/v1/x", b"/coder", None)
    kept.body.close()
    large = await resolved(sending(b"/coder/x", b"x", JSON, content_length=2**20 + 1))
    other = await resolved(sending(b"/coder/x", b"x", (b"Content-Type", b"image/png")))
    chunked = await resolved(sending(b"/coder/x", b"x", JSON, content_length=None, chunked=True))
    for one in (large, other, chunked):
        assert isinstance(one.body, StreamedBody)
        assert one.stream is False
    exchange = sending(b"/coder/x", b"{}", JSON, (b"Expect", b"100-continue"))
    waiting = await resolved(exchange)
    assert waiting.keep_later
    assert exchange.reads == 0


async def test_keys_are_asked_for_before_a_byte_is_read() -> None:
    config = a_config(a_route(), COMFY, keys=api("k"))
    for path in (b"/v1/x", b"/coder/x", b"/nowhere"):
        exchange = sending(path, b'{"model":"coder-fast"}', JSON)
        assert (await refused(exchange, config)).code == "missing_key"
        assert exchange.reads == 0
    assert (await resolved(sending(b"/comfy/"), config)).route.public
    key = (b"X-API-Key", b"k")
    assert (await resolved(sending(b"/coder/", b"", key), config)).route.name == "coder"


async def test_a_host_is_a_route() -> None:
    resolver = a_resolver()
    exchange = sending(b"/v1/models/../x", host=b"Comfy.LAN:8188")
    route = resolver.by_host(exchange.head)
    assert route is COMFY
    found = await resolver.on_host(exchange, route, caller(exchange))
    assert (found.path, found.prefix) == (b"/v1/models/../x", b"")
    assert resolver.by_host(request(host=b"other")) is None
    climbing = sending(b"/../x", host=b"comfy.lan")
    with pytest.raises(LauncherError):
        await resolver.on_host(climbing, route, caller(climbing))


class TestAKeyOfSomeRoutes:
    """`alice` is for coder alone, whose model has a brother elsewhere."""

    OTHER = a_route(name="chat", prefixes=("/chat",), models=(ModelSpec("chat-large"),))
    KEY = (b"X-API-Key", b"alice")

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

    async def test_another_routes_path_is_refused_before_a_byte_is_read(
        self, config: LauncherConfig
    ) -> None:
        exchange = sending(b"/chat/x", b'{"model":"chat-large"}', JSON, self.KEY)
        error = await refused(exchange, config)
        assert (error.code, exchange.reads) == ("wrong_key", 0)
        assert (await resolved(sending(b"/coder/x", b"", self.KEY), config)).route.name == "coder"

    @pytest.mark.parametrize("model", [b"chat-large", b"big"])
    async def test_nor_is_its_model_for_it(self, config: LauncherConfig, model: bytes) -> None:
        error = await refused(sending(b"/v1/x", b'{"model":"%b"}' % model, JSON, self.KEY), config)
        assert error.code == "wrong_key"
        assert (
            await refused(sending(b"/v1/x?model=" + model, b"", self.KEY), config)
        ).status == 403

    async def test_of_an_alias_it_has_what_it_may_use(self, config: LauncherConfig) -> None:
        for key, routes in ((b"alice", ["coder"]), (b"bob", ["chat", "coder"])):
            exchange = sending(b"/v1/x", b'{"model":"any"}', JSON, (b"X-API-Key", key))
            found = await a_resolver(config).on_path(exchange, caller(exchange, config))
            assert [one.route.name for one in found.candidates] == routes
            found.body.close()

    async def test_it_is_told_of_its_own_alone(self, config: LauncherConfig) -> None:
        for path in (b"/v1/x?model=no", b"/v1/x", b"/nowhere"):
            error = await refused(sending(path, b"", self.KEY), config)
            assert "chat" not in error.message
            assert "coder" in error.message


class TestPagesFromElsewhere:
    ELSEWHERE = (b"Origin", b"http://evil.example")

    async def test_are_refused_before_a_byte_is_read(self) -> None:
        for path in (b"/v1/x", b"/coder/x", b"/nowhere"):
            exchange = sending(path, b'{"model":"coder-fast"}', JSON, self.ELSEWHERE)
            assert (await refused(exchange)).code == "cross_origin"
            assert exchange.reads == 0
        assert (await resolved(sending(b"/comfy/x", b"x", self.ELSEWHERE))).route.public

    async def test_a_key_is_more_than_they_have(self) -> None:
        config = a_config(a_route(), COMFY, keys=api("k"))
        exchange = sending(b"/coder/x", b"x", self.ELSEWHERE, (b"X-API-Key", b"k"))
        assert (await resolved(exchange, config)).route.name == "coder"

    async def test_a_rebound_name_is_refused(self) -> None:
        browser = (b"User-Agent", b"Mozilla/5.0")
        for path in (b"/v1/x?model=coder-fast", b"/coder/x"):
            exchange = sending(path, b"", browser, host=b"evil.example")
            assert (await refused(exchange)).code == "wrong_host"


async def test_long_lists_end_somewhere() -> None:
    models = tuple(ModelSpec(f"model-{i}") for i in range(500))
    error = await refused(sending(b"/v1/x"), a_config(a_route(models=models)))
    assert "and 450 more" in error.message


async def test_an_alias_is_all_its_models_in_their_order() -> None:
    other = a_route(name="chat", prefixes=("/chat",), models=(ModelSpec("chat"),))
    config = a_config(a_route(), other, aliases=(AliasConfig("any", ("chat", "gpt-4o")),))
    for exchange in (sending(b"/v1/x", b'{"model":"any"}', JSON), sending(b"/v1/x?model=any")):
        found = await a_resolver(config).on_path(exchange, caller(exchange, config))
        found.body.close()
        assert found.asked == "any"
        assert found.candidates == (
            Candidate(other, ModelSpec("chat")),
            Candidate(a_route(), ModelSpec("gpt-4o", "Qwen/Qwen2.5-7B")),
        )
    unknown = await refused(sending(b"/v1/x?model=anything"), config)
    assert "coder-fast, gpt-4o, chat, any." in unknown.message
