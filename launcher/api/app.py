"""The launcher's own endpoints as one aiohttp application, for the life of the process.

A request passes three middlewares, in this order: what becomes of errors, who asks, and what was
sent. Whatever depends on the configuration is replaced by a reload in one assignment; a request
that is under way keeps to what it came with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from aiohttp import web

from launcher.api.endpoint import Context, Endpoint, Request, Stream
from launcher.api.openapi import ENDPOINTS
from launcher.api.shapes import check_media_type, from_json, from_query, learn
from launcher.api.streams import Right, Streams
from launcher.auth.access import Access, Caller
from launcher.auth.browsers import OWN_HEADERS, Guard, names_of
from launcher.auth.meters import Meters
from launcher.config import MIB, LauncherConfig
from launcher.errors import LauncherError, render
from launcher.printable import printable
from launcher.telemetry.metrics_table import OWN_ROUTE
from launcher.telemetry.record import ExchangeRecord, Outcome

log = logging.getLogger(__name__)

#: The largest body that is read.
MAX_BODY: Final = 1 * MIB
#: Seconds that a body may take.
BODY_TIMEOUT: Final = 60.0
#: nginx's number for a client that left before its answer.
CLIENT_GONE: Final = 499

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head, as `launcher.auth` reads it."""

    method: str
    host: bytes
    peer: str
    """The client's IP address, or `unix`."""
    scheme: str
    """`http` or `https`, as the client's connection has it."""
    operators: bool
    """It came in at an address where operators' endpoints answer."""
    fields: Mapping[bytes, tuple[bytes, ...]]

    @property
    def upgrade(self) -> bytes | None:
        """See `launcher.auth.head.Head`."""
        return self.get(b"upgrade")

    def get(self, name: bytes) -> bytes | None:
        """See `launcher.auth.head.Head`."""
        values = self.fields.get(name)
        return None if values is None else values[0]


class OwnPaths:
    """Which raw paths are the launcher's own: for whoever routes requests.

    Paths are compared as they were sent: an encoded `/` is part of a name, and a path that spells
    one of ours with other escapes isn't ours.
    """

    def __init__(self) -> None:
        self._exact: dict[bytes, Literal["everywhere", "operators"]] = {}
        prefixes: dict[bytes, Literal["everywhere", "operators"]] = {}
        for one in ENDPOINTS:
            where: Literal["everywhere", "operators"] = (
                "everywhere" if one.everywhere else "operators"
            )
            fixed, brace, _ = one.path.partition("{")
            if not brace:
                self._exact[fixed.encode()] = where
            elif fixed.startswith("/api/"):
                # No route can be named `api`: all that is below it is ours.
                prefixes[b"/api/"] = where
            else:
                prefixes[fixed.encode()] = where
        self._prefixes = tuple(prefixes.items())

    def find(self, path: bytes) -> Literal["everywhere", "operators"] | None:
        """Return where the path (without its query) is the launcher's own: at every address, or
        at operators' alone. None: it isn't."""
        found = self._exact.get(path)
        if found is not None:
            return found
        for prefix, where in self._prefixes:
            if path.startswith(prefix) and len(path) > len(prefix):
                return where
        return None


@dataclass(frozen=True, slots=True)
class _State:
    """What depends on the configuration."""

    context: Context
    access: Access
    guard: Guard


@dataclass(slots=True)
class _Visit:
    """A request on its way."""

    state: _State
    head: Head
    caller: Caller
    path: str
    """Printable, without its query."""
    status: int = 0
    code: str = ""
    outcome: Outcome = "ok"
    request_bytes: int = 0
    response_bytes: int = 0
    request: Request | None = None
    """Once it is checked."""
    stream: web.StreamResponse | None = None
    """The answer that goes on, once it has begun."""


_VISIT: Final = web.RequestKey("visit", _Visit)


class Api:
    """The application.

    `head_of` reads a request's head, `on_done` is told of each request when it has ended.
    """

    def __init__(
        self,
        context: Context,
        meters: Meters,
        head_of: Callable[[web.Request], Head],
        on_done: Callable[[ExchangeRecord], None],
    ) -> None:
        self._meters = meters
        self._head_of = head_of
        self._on_done = on_done
        self._state = self._state_of(context)
        self._paths = OwnPaths()
        self._endpoints: dict[web.AbstractRoute, Endpoint] = {}
        self.streams = Streams()
        self.running: set[asyncio.Task[object]] = set()
        """The tasks of the requests under way."""
        self.application = web.Application(
            middlewares=(self._errors, self._who_asks, self._what_was_sent),
            client_max_size=MAX_BODY,
        )
        self.application.on_response_prepare.append(_set_headers)
        for endpoint in ENDPOINTS:
            self._add(endpoint)

    def __repr__(self) -> str:
        return f"<Api {len(self.running)} running>"

    def take(self, config: LauncherConfig) -> None:
        """Answer by this configuration from the next request on."""
        self._state = state = self._state_of(replace(self._state.context, config=config))
        self.streams.recheck(
            lambda right: state.access.admits(right.head, right.need, details=right.details)
        )

    def _state_of(self, context: Context) -> _State:
        config = context.config
        return _State(
            context,
            Access(config.keys, self._meters),
            Guard(config.allowed_hosts, names_of(config)),
        )

    def _add(self, endpoint: Endpoint) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._answer(request, endpoint)

        path = endpoint.path.replace("...}", ":(?s:.+)}")
        for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
            route = self.application.router.add_route(method, path, answer, expect_handler=_expect)
            self._endpoints[route] = endpoint

    async def _answer(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        visit = request[_VISIT]
        assert visit.request is not None, "it has passed the middlewares"
        answer = await endpoint.handler(visit.state.context, visit.request)
        if not isinstance(answer, Stream):
            if isinstance(answer.body, bytes):
                visit.response_bytes = len(answer.body)
            return answer
        headers = {"Content-Type": answer.content_type, **answer.headers}
        visit.stream = response = web.StreamResponse(headers=headers)
        right = Right(visit.head, endpoint.need, visit.request.details)
        visit.response_bytes = await self.streams.send(request, response, answer, right)
        return response

    # -- what becomes of errors

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer errors in the OpenAI envelope, and record how the request ended."""
        state, head = self._state, self._head_of(request)
        path = printable(request.raw_path.partition("?")[0][:512])
        visit = request[_VISIT] = _Visit(state, head, state.access.caller(head), path)
        began = asyncio.get_running_loop().time()
        task = asyncio.current_task()
        assert task is not None
        self.running.add(task)
        try:
            response = await self._caught(request, handler, visit)
            visit.status = visit.status or response.status
            return response
        except asyncio.CancelledError:
            if request.transport is None:
                visit.status, visit.outcome = CLIENT_GONE, "client_gone"
            else:
                visit.status, visit.code, visit.outcome = 503, "draining", "cut"
            raise
        finally:
            self.running.discard(task)
            self._on_done(_record(visit, asyncio.get_running_loop().time() - began))

    async def _caught(
        self, request: web.Request, handler: Handler, visit: _Visit
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except LauncherError as error:
            problem = error
        except web.HTTPNotFound:
            problem = _not_found(visit)
        except web.HTTPMethodNotAllowed as error:
            known = self._paths.find(request.raw_path.partition("?")[0].encode("utf-8", "replace"))
            # At clients' addresses it is as if there were no such path.
            if visit.head.operators or known == "everywhere":
                problem = _method_not_allowed(error)
            else:
                problem = _not_found(visit)
        except web.HTTPRequestEntityTooLarge:
            problem = LauncherError(
                "body_too_large",
                f"The launcher's own endpoints read bodies of up to {MAX_BODY} bytes.",
            )
        except web.RequestPayloadError:
            problem = LauncherError("bad_request", "The body breaks HTTP's rules.")
        except ConnectionError:
            visit.status, visit.outcome = CLIENT_GONE, "client_gone"
            return _aborted(request, visit)
        except Exception:  # a bug in an endpoint is told to its client and logged, once, here
            log.exception("a bug while %s %s was answered", visit.head.method, visit.path)
            problem = LauncherError(
                "internal_error", "The launcher failed; its log has the details."
            )
        visit.code = problem.code
        if visit.stream is not None and visit.stream.prepared:
            # Half an answer can't be taken back: the client must be able to tell.
            visit.status, visit.outcome = visit.stream.status, "cut"
            return _aborted(request, visit)
        visit.outcome = "error"
        status, _, headers, body = render(problem, show_detail=visit.caller.sees_details())
        visit.response_bytes = len(body)
        return web.Response(
            status=status,
            headers={name.decode(): value.decode() for name, value in headers},
            body=body,
        )

    # -- who asks

    @web.middleware
    async def _who_asks(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check that it comes from whom it should, before a byte of the body is read."""
        endpoint = self._endpoints.get(request.match_info.route)
        visit = request[_VISIT]
        if endpoint is None:
            return await handler(request)  # which raises what is wrong with path or method
        if not endpoint.everywhere:
            if not visit.head.operators:
                raise web.HTTPNotFound
            visit.state.guard.own(visit.head)
        visit.caller.require(endpoint.need)
        if endpoint.everywhere and endpoint.need != "open" and visit.caller.key is None:
            visit.state.guard.route(visit.head, public=False)
        return await handler(request)

    # -- what was sent

    @web.middleware
    async def _what_was_sent(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Read the query and the body, and check them against the shapes of the endpoint."""
        endpoint = self._endpoints.get(request.match_info.route)
        if endpoint is None:
            return await handler(request)
        visit, args = request[_VISIT], request.match_info
        kind = visit.head.get(b"content-type")
        check_media_type(endpoint.body, kind, has_body=request.body_exists)
        await learn(endpoint.query, endpoint.body)
        raw_query = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")
        query = from_query(endpoint.query, raw_query)
        body = await _read(request) if request.body_exists else b""
        visit.request_bytes = len(body)
        visit.request = Request(
            args=args,
            query=query,
            body=from_json(endpoint.body, body, args),
            key=None if visit.caller.key is None else visit.caller.key.name,
            admin=visit.caller.is_admin(),
            details=visit.caller.sees_details(),
            routes=visit.caller.routes,
            last_event_id=(visit.head.get(b"last-event-id") or b"").decode("latin-1"),
        )
        return await handler(request)


def _record(visit: _Visit, duration: float) -> ExchangeRecord:
    key = visit.caller.key
    return ExchangeRecord(
        at=time.time(),
        method=visit.head.method,
        path=visit.path,
        peer=visit.head.peer,
        route=OWN_ROUTE,
        backend="",
        model="",
        status=visit.status,
        code=visit.code,
        outcome=visit.outcome,
        cold=False,
        queued=0.0,
        starting=0.0,
        first_byte=-1.0,
        duration=duration,
        request_bytes=visit.request_bytes,
        response_bytes=visit.response_bytes,
        retried=False,
        key="" if key is None else key.name,
    )


async def _expect(request: web.Request) -> None:
    """Leave `Expect: 100-continue` for when the body is read."""


async def _read(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY, request.content_length or 0)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise LauncherError("request_timeout", "The request's body stopped coming in.") from None


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Say to browsers what an answer of the launcher's own may do, unless it says so itself."""
    for name, value in OWN_HEADERS:
        response.headers.setdefault(name.decode(), value.decode())
    response.headers.pop("Server", None)


def _not_found(visit: _Visit) -> LauncherError:
    return LauncherError("unknown_route", f"The launcher has no {visit.path}.")


def _method_not_allowed(error: web.HTTPMethodNotAllowed) -> LauncherError:
    allowed = tuple(sorted(error.allowed_methods))
    return LauncherError(
        "method_not_allowed", f"This path answers to {', '.join(allowed)} only.", allow=allowed
    )


def _aborted(request: web.Request, visit: _Visit) -> web.StreamResponse:
    """End the connection, so that the client can tell; what is returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return visit.stream or web.Response(status=400)
