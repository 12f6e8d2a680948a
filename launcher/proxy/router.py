"""What a request leads to, compiled from the configuration: by host, path prefix or model id.

Everything that doesn't change from request to request is worked out once here, and remembered by
the path's bytes. Paths are compared as raw bytes: no decoding, so `/%63oder` is not `/coder`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from launcher.auth.browsers import host_name
from launcher.config import LauncherConfig, ModelSpec, RouteConfig
from launcher.core.types import BackendId
from launcher.errors import LauncherError

#: How many ids or routes an error lists.
_LISTED: Final = 50
#: Paths that are remembered; the table is emptied when full.
_MOST_KEPT: Final = 4096
_LONGEST_KEPT: Final = 256

#: Inference that leaves nothing behind: asked twice, it answers twice, and that is all.
_STATELESS: Final = (
    b"/chat/completions",
    b"/completions",
    b"/completion",
    b"/embeddings",
    b"/embedding",
    b"/embed",
    b"/messages",
    b"/messages/count_tokens",
    b"/rerank",
    b"/score",
    b"/pooling",
    b"/classify",
    b"/moderations",
    b"/infill",
    b"/generate",
    b"/tokenize",
    b"/detokenize",
    b"/audio/speech",
    b"/audio/transcriptions",
    b"/audio/translations",
    b"/images/generations",
    b"/images/edits",
    b"/images/variations",
)

#: What backends read as something else than written: a separator to some (`\`), the end
#: of the string (`%00`, `#`), the end of the request line (controls and blanks).
_ODD: Final = re.compile(rb"[\x00-\x20\x7f\\#]|%00")

#: Dots of a dot segment, each plain or encoded (RFC 3986 §6.2.2.3 after §6.2.2.2).
_DOT: Final = re.compile(rb"\.|%2e", re.IGNORECASE)
_ONE_OR_TWO_DOTS: Final = re.compile(rb"(?:\.|%2e){1,2}", re.IGNORECASE)
_ENCODED_SLASH: Final = re.compile(rb"%2f|%5c", re.IGNORECASE)

_NOT_PRINTABLE: Final = re.compile(rb"[^\x21-\x7e]")

#: The ways to spell the unified endpoint, longest first; what is behind goes under `/v1`.
_UNIFIED: Final = (b"/openai/v1", b"/openai", b"/v1")


class Candidate(NamedTuple):
    """A route that may serve a request, and as which of its models."""

    route: RouteConfig
    model: ModelSpec | None = None
    """None: on the route's own path, nobody asks for a model."""


class Destination:
    """Who may serve a request: the candidates for a route's path, or for a model id."""

    __slots__ = ("asked", "backends", "candidates", "only", "renamed", "route")

    def __init__(self, candidates: tuple[Candidate, ...], asked: str = "") -> None:
        """`asked` is the configured model id or alias; empty on a route's own path."""
        self.candidates = candidates
        """At least one, in order of preference."""
        self.asked = asked
        self.route = candidates[0].route
        """The route whose word holds while the request waits."""
        every = (id for candidate in candidates for id in candidate.route.backends)
        self.backends = tuple(dict.fromkeys(every))
        self.only = self.backends[0] if len(self.backends) == 1 else BackendId("")
        """The backend, where there is just one; else empty."""
        self.renamed = any(self.name_for(one) is not None for one in candidates)
        """A candidate's backend knows the model by another name."""

    def served_by(self, backend: BackendId) -> Candidate:
        """Return the candidate that a granted backend stands for."""
        for one in self.candidates:
            if backend in one.route.backends:
                return one
        return self.candidates[0]

    def name_for(self, candidate: Candidate) -> str | None:
        """Return the backend's own name for the model, None where it is the one asked for."""
        model = candidate.model
        if model is None or (model.upstream is None and model.id == self.asked):
            return None
        return model.upstream or model.id


OWN, BY_ROUTE, BY_MODEL = range(3)


class Target:
    """What a path leads to."""

    __slots__ = ("destination", "kind", "path", "prefix", "shown", "stateless", "text")

    def __init__(
        self,
        kind: int,
        shown: str,
        path: bytes = b"",
        prefix: bytes = b"",
        destination: Destination | None = None,
    ) -> None:
        self.kind = kind
        self.shown = shown
        """The request's path for logs."""
        self.path = path
        """The backend's, raw."""
        self.prefix = prefix
        """What was cut off, for X-Forwarded-Prefix; b"" for none."""
        self.destination = destination
        """Where the path alone tells."""
        self.text = path.decode("latin-1")
        """The same for comparing it with the configuration's."""
        self.stateless = path.endswith(_STATELESS)


class InQuery(NamedTuple):
    """The model stands in the query, its raw value from `start` to `end`."""

    query: bytes
    start: int
    end: int

    def renamed(self, name: str) -> bytes:
        """Return the query with another name for the model; only that value's bytes differ."""
        return self.query[: self.start] + quote(name, safe="").encode() + self.query[self.end :]


class Router:
    """Routes of one configuration."""

    def __init__(self, config: LauncherConfig) -> None:
        self.routes = config.routes
        self._by_prefix: dict[bytes, Destination] = {}
        self._by_host: dict[str, Destination] = {}
        own: dict[str, Candidate] = {}
        for route in config.routes:
            destination = Destination((Candidate(route),))
            for prefix in route.prefixes:
                self._by_prefix[prefix.encode()] = destination
            for host in route.hosts:
                self._by_host[host.lower()] = destination
            for model in route.models:
                own[model.id] = Candidate(route, model)
        self._depth = max((p.count(b"/") for p in self._by_prefix), default=0)
        self.models = {id: Destination((one,), id) for id, one in own.items()}
        """Who may serve each model id and alias."""
        for alias in config.aliases:
            candidates = tuple(own[model] for model in alias.models)
            self.models[alias.id] = Destination(candidates, alias.id)
        self.kept: dict[bytes, Target] = {}
        """Targets of routes and of the unified endpoint by the path's bytes."""

    @property
    def has_hosts(self) -> bool:
        """Some routes are found by host name."""
        return bool(self._by_host)

    def of_host(self, host: bytes, path: bytes) -> Target | None:
        """Return the target of the route that owns the request's host; the launcher's own paths
        don't apply there. Raises LauncherError `bad_target`."""
        destination = self._by_host.get(host_name(host)) if host else None
        if destination is None:
            return None
        check_path(path)
        return Target(BY_ROUTE, printable(path), behind(path, b""), b"", destination)

    def of_path(self, path: bytes) -> Target | None:
        """Return the target of a path, None where no route matches. Raises LauncherError
        `bad_target`."""
        check_path(path)
        cut = unified(path)
        if cut is not None:
            target = Target(BY_MODEL, printable(path), cut[1], cut[0])
        else:
            prefix = self._prefix_of(path)
            if prefix is None:
                return None
            rest = behind(path, prefix)
            target = Target(BY_ROUTE, printable(path), rest, prefix, self._by_prefix[prefix])
        if len(path) <= _LONGEST_KEPT:
            if len(self.kept) >= _MOST_KEPT:
                self.kept.clear()
            self.kept[path] = target
        return target

    def _prefix_of(self, path: bytes) -> bytes | None:
        """Return the longest prefix that ends on a segment boundary."""
        cuts: list[int] = []
        at = path.find(b"/", 1)
        while at != -1 and len(cuts) < self._depth:
            cuts.append(at)
            at = path.find(b"/", at + 1)
        if at == -1 and len(cuts) < self._depth:
            cuts.append(len(path))
        for cut in reversed(cuts):
            if path[:cut] in self._by_prefix:
                return path[:cut]
        return None

    def of_route(self, name: str) -> Destination | None:
        """Return where a route of that name leads."""
        for route in self.routes:
            if route.name == name:
                return Destination((Candidate(route),))
        return None

    def of_model(self, asked: str | None, allowed: frozenset[str] | None) -> Destination:
        """Return who may serve a model id or alias to a caller that may use the routes named
        (None: all). Raises LauncherError `missing_model`, `unknown_model`; KeyError where it is
        there for others alone."""
        destination = self.models.get(asked) if asked else None
        if destination is None:
            known = _listed(self._names(allowed))
            if not asked:
                raise LauncherError(
                    "missing_model",
                    "No `model` in the request: put it into the JSON body, a form field, or the"
                    f" query (`?model=…`). Known: {known}.",
                    param="model",
                )
            raise LauncherError(
                "unknown_model",
                f"No route serves the model {_quoted(asked)}. Known: {known}.",
                param="model",
            )
        if allowed is None:
            return destination
        candidates = tuple(one for one in destination.candidates if one.route.name in allowed)
        if len(candidates) == len(destination.candidates):
            return destination
        if not candidates:
            raise KeyError(asked)
        return Destination(candidates, destination.asked)

    def _names(self, allowed: frozenset[str] | None) -> list[str]:
        """Ids and aliases that a caller may ask for."""
        return [
            id
            for id, one in self.models.items()
            if allowed is None or any(each.route.name in allowed for each in one.candidates)
        ]

    def unknown_route(self, allowed: frozenset[str] | None) -> LauncherError:
        """Return the refusal of a path that leads nowhere."""
        prefixes = [
            prefix
            for route in self.routes
            if allowed is None or route.name in allowed
            for prefix in route.prefixes
        ]
        return LauncherError(
            "unknown_route",
            f"No route here. Routes: {_listed(prefixes)}; models at /openai/v1; what is"
            " running at /routes.",
        )


def check_path(path: bytes) -> None:
    """Refuse what can't be forwarded under any prefix: LauncherError `bad_target`."""
    if not path.startswith(b"/"):
        raise LauncherError("bad_target", "The request target has to be a path beginning with /.")
    if _ODD.search(path):
        raise LauncherError(
            "bad_target",
            "The path holds a backslash, %00, # or a control character; percent-encode what"
            " is meant literally.",
        )


def behind(path: bytes, prefix: bytes) -> bytes:
    """Return the rest of `path` behind a prefix that ends on a segment boundary: verbatim, `/` if
    nothing is left. Raises `bad_target` where its dot segments climb above the prefix."""
    rest = path[len(prefix) :]
    if climbs(rest):
        raise LauncherError(
            "bad_target", "The path's dot segments lead out of its route; send the path they mean."
        )
    return rest or b"/"


def climbs(path: bytes) -> bool:
    """Return whether dot segments lead above where `path` begins, under any usual reading.

    Servers differ in whether `//` is one slash and whether `%2f` and `%5c` separate; the
    reading that comes out lowest counts.
    """
    if not _DOT.search(path):
        return False
    depth = 0
    for segment in path.split(b"/"):
        parts = _ENCODED_SLASH.split(segment)
        if len(parts) == 1:
            depth += _step(segment)
            lowest = depth
        else:
            down = lowest_down = 0
            for part in parts:
                down += _step(part)
                lowest_down = min(lowest_down, down)
            lowest = depth + lowest_down
            depth += min(1, down)
        if lowest < 0:
            return True
    return False


def _step(segment: bytes) -> int:
    """How far one segment goes down the tree; an empty one and a `.` stay."""
    if not segment:
        return 0
    if _ONE_OR_TWO_DOTS.fullmatch(segment):
        return 1 - len(_DOT.findall(segment))
    return 1


def unified(path: bytes) -> tuple[bytes, bytes] | None:
    """Return the prefix to cut and the backend's path (`/v1/…`) for a path under the unified
    endpoint, None for any other. Raises `bad_target` as `behind` does."""
    for prefix in _UNIFIED:
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/"):
            # What X-Forwarded-Prefix tells: the backend's own path begins with /v1.
            cut = b"" if prefix == b"/v1" else b"/openai"
            return cut, b"/v1" + behind(path, prefix)
    return None


def printable(path: bytes) -> str:
    """Return the path for logs: anything but printable ASCII as \\xNN, at most 512 characters."""
    text = _NOT_PRINTABLE.sub(lambda found: b"\\x%02x" % found[0][0], path[:512]).decode("ascii")
    return text if len(path) <= 512 else text + "…"


def model_in_query(query: bytes | None) -> tuple[str, InQuery] | None:
    """Return the `model` of a query and where it stands. Raises LauncherError `bad_request`."""
    if not query or (b"model" not in query and b"%" not in query):
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
