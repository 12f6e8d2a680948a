"""Which route a request belongs to, and in what shape its body goes there.

Asks the keys before it reads a byte, reads a body only where the model or a retry needs
it, and starts nothing. It must not know the gate or backends' state.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final
from urllib.parse import unquote_to_bytes

from launcher.auth.access import Caller
from launcher.auth.browsers import Guard, host_name
from launcher.config import MIB, LauncherConfig, RouteConfig
from launcher.core.routing import RouteTable
from launcher.errors import LauncherError
from launcher.http.exchange import Exchange, RequestHead
from launcher.proxy.body import Budget, KeptBody, StreamedBody, keep
from launcher.proxy.model_scan import JsonScan, Scanner
from launcher.proxy.multipart import FormScan, boundary_of
from launcher.proxy.resolved import Candidate, InBody, InQuery, Resolved, backends_of
from launcher.proxy.target import behind, unified

#: On a route's own path: JSON up to here is kept, so that it can be looked at and sent again.
KEPT_JSON: Final = 1 * MIB

#: Bodies that aren't JSON whatever they hold: their model has to stand in the query.
_NO_JSON: Final = ("audio/", "image/", "video/", "application/octet-stream")

#: How many ids or routes an error lists.
_LISTED: Final = 50


class Resolver:
    """Routes by host, path and model."""

    def __init__(
        self,
        config: LauncherConfig,
        table: RouteTable[RouteConfig],
        guard: Guard,
        budget: Budget,
    ) -> None:
        self._table = table
        own = {
            model.id: Candidate(route, model) for route in table.routes for model in route.models
        }
        self._known: dict[str, tuple[Candidate, ...]] = {id: (one,) for id, one in own.items()}
        """Who may serve each model id and alias, in order of preference."""
        for alias in config.aliases:
            self._known[alias.id] = tuple(own[model] for model in alias.models)
        self._hosts = any(route.hosts for route in table.routes)
        self._guard = guard
        self._max_body = config.max_body
        self.budget = budget

    def by_host(self, head: RequestHead) -> RouteConfig | None:
        """The route that owns the request's host; the launcher's own paths don't apply there."""
        if not self._hosts or not head.host:
            return None
        return self._table.by_host(host_name(head.host))

    async def on_host(self, exchange: Exchange, route: RouteConfig, caller: Caller) -> Resolved:
        """The request as that route's."""
        head = exchange.head
        self._let_in(exchange, caller, route)
        return await self._on_route(exchange, route, b"", behind(head.path, b""))

    async def on_path(self, exchange: Exchange, caller: Caller) -> Resolved:
        """By model under the unified endpoint, else by the longest prefix.

        Raises LauncherError: `bad_target`, the key's, the guard's, `unknown_route`,
        `unknown_model`, and what reading a body for its model raises.
        """
        head = exchange.head
        cut = unified(head.path)
        if cut is not None:
            self._let_in(exchange, caller, None)
            return await self._by_model(exchange, caller, *cut)
        match = self._table.by_path(head.path)
        if match is None:
            # Who has no key learns no names.
            self._let_in(exchange, caller, None)
            raise self._unknown_route(caller)
        self._let_in(exchange, caller, match.route)
        prefix = match.prefix.encode()
        return await self._on_route(exchange, match.route, prefix, behind(head.path, prefix))

    def leads_now(self, found: Resolved, caller: Caller) -> tuple[Candidate, ...]:
        """This configuration's candidates for a request that another one resolved. Empty where
        they are nobody, or the same backends."""
        if found.asked:
            try:
                candidates = self._asked_for(found.asked, caller)
            except LauncherError:
                return ()
        else:
            name = found.first.name
            candidates = tuple(Candidate(one) for one in self._table.routes if one.name == name)
        return () if not candidates or backends_of(candidates) == found.backends else candidates

    async def keep(self, exchange: Exchange) -> KeptBody:
        """Read a body that `keep_later` left for after the admission."""
        return await keep(exchange, self.budget, KEPT_JSON)

    def _let_in(self, exchange: Exchange, caller: Caller, route: RouteConfig | None) -> None:
        """With a key that opens the route, or where none is asked and no page from elsewhere
        is behind it."""
        caller.use(route, exchange.received_at)
        if caller.key is None:
            self._guard.route(exchange.head, public=route is not None and route.public)

    async def _on_route(
        self, exchange: Exchange, route: RouteConfig, prefix: bytes, path: bytes
    ) -> Resolved:
        head = exchange.head
        found = Resolved((Candidate(route),), path, head.query, prefix, StreamedBody(exchange))
        if _is_json(media_type(head)) and 0 < (head.content_length or 0) <= KEPT_JSON:
            # To read is to send the 100 Continue, which has to wait for the admission.
            if head.get(b"expect") is None:
                found.body = await keep(exchange, self.budget, KEPT_JSON)
            else:
                found.keep_later = True
        else:
            found.stream = False
        return found

    async def _by_model(
        self, exchange: Exchange, caller: Caller, prefix: bytes, path: bytes
    ) -> Resolved:
        head = exchange.head
        in_query = _model_in_query(head.query)
        scanner = self._scanner(head, needed=in_query is None)
        if scanner is None:
            asked, at = in_query or (None, None)
            candidates = self._asked_for(asked, caller)
            body = StreamedBody(exchange)
            return Resolved(
                candidates, path, head.query, prefix, body, asked or "", at, stream=False
            )
        kept = await keep(exchange, self.budget, self._max_body, scanner)
        try:
            scanned = scanner.finish()
            where: InQuery | InBody
            if scanned.model is None and in_query is not None:
                asked, where = in_query
            else:
                asked, where = scanned.model, InBody(kept, scanned.span, scanner.encode)
            candidates = self._asked_for(asked, caller)
        except BaseException:
            # Nobody else has it yet who would give its memory back.
            kept.close()
            raise
        return Resolved(
            candidates, path, head.query, prefix, kept, asked or "", where, stream=scanned.stream
        )

    def _scanner(self, head: RequestHead, *, needed: bool) -> Scanner | None:
        """What finds the model in this request's body; None where it isn't to be read."""
        if not head.has_body:
            return None
        media = media_type(head)
        if media.startswith(_NO_JSON):
            return None
        if (head.get(b"content-encoding") or b"identity").strip().lower() != b"identity":
            if not needed:
                return None
            raise LauncherError(
                "unsupported_encoding",
                "The body is compressed and its `model` is needed to find the route; send it"
                " uncompressed, or name the model in the query (`?model=…`), or use the"
                " route's own path.",
            )
        if media != "multipart/form-data":
            # Whatever it is called: `curl -d` calls JSON a form.
            return JsonScan() if needed or _is_json(media) else None
        boundary = boundary_of(head.get(b"content-type") or b"")
        if boundary is None:
            raise LauncherError("bad_request", "The multipart form's Content-Type has no boundary.")
        return FormScan(boundary)

    def _asked_for(self, asked: str | None, caller: Caller) -> tuple[Candidate, ...]:
        """Who may serve a model id or alias to this caller. Raises `missing_model`,
        `unknown_model`, and `wrong_key` where it is there for others alone."""
        if not asked:
            raise LauncherError(
                "missing_model",
                "No `model` in the request: put it into the JSON body, a form field, or the"
                f" query (`?model=…`). Known: {_listed(self._models(caller))}.",
                param="model",
            )
        candidates = self._known.get(asked)
        if candidates is None:
            raise LauncherError(
                "unknown_model",
                f"No route serves the model {_quoted(asked)}."
                f" Known: {_listed(self._models(caller))}.",
                param="model",
            )
        if caller.routes is None:
            return candidates
        allowed = tuple(one for one in candidates if caller.may_use(one.route.name))
        if not allowed:
            raise caller.not_for(f"the model {asked}")
        return allowed

    def _models(self, caller: Caller) -> list[str]:
        """Ids and aliases that a caller may ask for."""
        return [
            id
            for id, candidates in self._known.items()
            if any(caller.may_use(one.route.name) for one in candidates)
        ]

    def _unknown_route(self, caller: Caller) -> LauncherError:
        routes = [route for route in self._table.routes if caller.may_use(route.name)]
        prefixes = [prefix for route in routes for prefix in route.prefixes]
        return LauncherError(
            "unknown_route",
            f"No route here. Routes: {_listed(prefixes)}; models at /openai/v1; what is"
            " running at /routes.",
        )


def media_type(head: RequestHead) -> str:
    """The Content-Type without its parameters, in lower case; empty without one."""
    value = head.get(b"content-type") or b""
    return value.partition(b";")[0].strip().lower().decode("latin-1")


def _is_json(media: str) -> bool:
    return media == "application/json" or (
        media.startswith("application/") and media.endswith("+json")
    )


def _model_in_query(query: bytes | None) -> tuple[str, InQuery] | None:
    """The `model` of a query and where it stands."""
    if not query:
        return None
    found = None
    at = 0
    for pair in query.split(b"&"):
        name, equals, value = pair.partition(b"=")
        if equals and _decoded(name) == "model":
            if found is not None:
                raise LauncherError(
                    "bad_request", "The query has more than one `model`.", param="model"
                )
            start = at + len(name) + 1
            found = _decoded(value), InQuery(query, start, start + len(value))
        at += len(pair) + 1
    return found


def _decoded(raw: bytes) -> str:
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8", "replace")


def _listed(names: Collection[str]) -> str:
    if not names:
        return "none is configured"
    more = len(names) - _LISTED
    return ", ".join(islice(names, _LISTED)) + (f" and {more} more" if more > 0 else "")


def _quoted(text: str) -> str:
    """A client's words in a message: short, and nothing but printable characters."""
    shown = text if len(text) <= 100 else text[:100] + "…"
    return repr(shown.encode("utf-8", "replace").decode())
