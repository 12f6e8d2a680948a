"""Answers that the launcher gives itself: its own endpoints, and errors.

It must not know routes or backends.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from launcher.api.contract import ApiRequest, ApiResponse, ApiStream
from launcher.api.endpoint import Endpoint, Found, OwnEndpoints
from launcher.api.shapes import check_media_type, from_json, from_query, learn
from launcher.auth.access import Caller
from launcher.auth.browsers import OWN_HEADERS, PAGE_HEADERS, Guard
from launcher.config import MIB
from launcher.errors import LauncherError
from launcher.http.headers import RawHeaders, RequestHead
from launcher.http.server import Request
from launcher.proxy.readers import Readers, Right

#: The largest body that one of the launcher's own endpoints reads.
_LONGEST: Final = 1 * MIB


class OwnPaths:
    """The launcher's own endpoints behind their keys."""

    def __init__(self, endpoints: OwnEndpoints, guard: Guard, readers: Readers) -> None:
        self._endpoints = endpoints
        self._guard = guard
        self._readers = readers

    def find(self, exchange: Request) -> Found | None:
        """The endpoint for a request, None where the path isn't one of ours, or isn't at the
        address it came in by. Raises LauncherError `method_not_allowed`."""
        head = exchange.head
        path = head.path.decode("utf-8", "replace")
        return self._endpoints.find(head.method, path, operators=head.operators)

    async def answer(self, exchange: Request, found: Found, caller: Caller) -> int:
        """Ask for the key, then for the answer, and send it; return its status.

        Raises LauncherError: the guard's, the key's, what is wrong with the query or the body,
        and the endpoint's own.
        """
        head, endpoint = exchange.head, found.endpoint
        self._check(head, endpoint, caller)
        check_media_type(endpoint.body, head.get(b"content-type"), has_body=head.has_body)
        await learn(endpoint.query, endpoint.body)
        request = ApiRequest(
            method="GET" if head.method == "HEAD" else head.method,
            path=head.path.decode("utf-8", "replace"),
            args=found.args,
            admin=caller.is_admin(),
            details=caller.sees_details(),
            key="" if caller.key is None else caller.key.name,
            routes=caller.routes,
            last_event_id=(head.get(b"last-event-id") or b"").decode("latin-1"),
            query=from_query(endpoint.query, head.query),
            body=from_json(endpoint.body, await _read(exchange), found.args),
        )
        response = await endpoint.answer(request)
        if isinstance(response, ApiStream):
            right = Right(head, endpoint.need, request.details)
            await self._readers.send(exchange, _headers(response), response.pieces, right)
            return HTTPStatus.OK
        await send(
            exchange,
            response.status,
            HTTPStatus(response.status).phrase.encode(),
            _headers(response),
            response.body,
        )
        return response.status

    def _check(self, head: RequestHead, endpoint: Endpoint, caller: Caller) -> None:
        """That it comes from whom it should, before anything is read."""
        if not endpoint.everywhere:
            self._guard.own(head)
        caller.require(endpoint.need)
        if endpoint.everywhere and endpoint.need != "open" and caller.key is None:
            self._guard.route(head, public=False)


async def send(
    exchange: Request, status: int, reason: bytes, headers: RawHeaders, body: bytes
) -> None:
    """A whole answer; its headers say the body's length, which HEAD is told and not sent."""
    await exchange.respond(status, reason, headers)
    if exchange.head.method != "HEAD" and body:
        await exchange.write(body)
    await exchange.finish()


def _headers(response: ApiResponse | ApiStream) -> RawHeaders:
    own = tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
    )
    kind = (b"Content-Type", response.content_type.encode("latin-1"))
    secure = PAGE_HEADERS if response.content_type.startswith("text/html") else OWN_HEADERS
    if isinstance(response, ApiStream):
        return (kind, *own, *secure)
    return (kind, (b"Content-Length", b"%d" % len(response.body)), *own, *secure)


async def _read(exchange: Request) -> bytes:
    if (exchange.head.content_length or 0) > _LONGEST:
        raise _too_large()
    body = b""
    while piece := await exchange.read():
        body += piece
        if len(body) > _LONGEST:
            raise _too_large()
    return body


def _too_large() -> LauncherError:
    return LauncherError(
        "body_too_large", f"The launcher's own endpoints read bodies of up to {_LONGEST} bytes."
    )
