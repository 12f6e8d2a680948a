"""Until a grant the first candidate speaks for a request, then whoever was granted."""

from __future__ import annotations

from launcher.config import ModelSpec
from launcher.core.types import BackendId
from launcher.proxy.body import Budget, KeptBody
from launcher.proxy.resolved import Candidate, InBody, InQuery, Resolved
from tests.proxy.house import a_route

A, B, C = BackendId("a"), BackendId("b"), BackendId("c")
CHAT = Candidate(a_route(name="chat", backends=(A, B)), ModelSpec("chat"))
BIG = Candidate(a_route(name="big", backends=(B, C)), ModelSpec("big", "org/Big é"))


async def kept(data: bytes) -> KeptBody:
    body = KeptBody(Budget(1000))
    assert body.take(data)
    return body


async def test_the_granted_backends_route_and_name_take_over() -> None:
    body = await kept(b'{"model":"any","n":1}')
    named = InBody(body, (9, 14), lambda name: f'"{name}"'.encode())
    found = Resolved((CHAT, BIG), b"/v1/x", None, b"", body, "any", named)
    assert (found.first.name, found.route.name, found.backends) == ("chat", "chat", (A, B, C))
    found.settle(C)
    assert (found.first.name, found.route.name) == ("chat", "big")
    assert await body.whole() == '{"model":"org/Big é","n":1}'.encode()
    # It failed, and another is granted the second attempt.
    found.settle(B)
    assert found.route.name == "chat"
    assert await body.whole() == b'{"model":"chat","n":1}'
    body.close()


async def test_in_the_query() -> None:
    body = await kept(b"")
    query = b"a=1&model=any&b"
    found = Resolved((CHAT, BIG), b"/v1/x", query, b"", body, "any", InQuery(query, 10, 13))
    found.settle(C)
    assert found.query == b"a=1&model=org%2FBig%20%C3%A9&b"
    found.settle(A)
    assert found.query == b"a=1&model=chat&b"


async def test_what_the_backend_knows_by_that_name_is_left_as_it_was_written() -> None:
    body = await kept(b'{"model":"ch\\u0061t"}')
    named = InBody(body, (9, 20), lambda name: b"never")
    found = Resolved((CHAT,), b"/v1/x", None, b"", body, "chat", named)
    found.settle(A)
    assert await body.whole() == b'{"model":"ch\\u0061t"}'
    body.close()


async def test_on_a_routes_own_path_nothing_is_named() -> None:
    body = await kept(b'{"model":"any"}')
    found = Resolved((Candidate(CHAT.route),), b"/v1/x", b"model=any", b"/chat", body)
    found.settle(A)
    assert (found.query, found.asked, await body.whole()) == (b"model=any", "", b'{"model":"any"}')
    body.close()
