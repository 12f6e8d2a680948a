"""Which of the launcher's own endpoints a path is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from launcher.api.endpoint import Endpoint, Found
from launcher.errors import LauncherError

Methods = dict[str, Endpoint]

_NAME = re.compile(r"\{(\w+)(\.\.\.)?\}")


class Router:
    """Endpoints by method and path.

    Every request of every client passes here, so a path that isn't ours costs one look-up and
    one comparison.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._exact: dict[str, Methods] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], Methods]] = {}
        for one in self.endpoints:
            methods = self._methods(one.path)
            if one.method in methods:
                raise ValueError(f"two endpoints at {one.method} {one.path}")
            methods[one.method] = one
        # No route can be named `api`, so what is below it needs no second look.
        self._prefixes = tuple(
            sorted(
                {
                    "/api/" if path.startswith("/api/") else path.partition("{")[0]
                    for path in self._patterns
                }
            )
        )

    def find(self, method: str, path: str) -> Found | None:
        """The endpoint of a raw path (without query), None where it isn't one of ours.

        Raises `method_not_allowed`.
        """
        methods = self._exact.get(path)
        if methods is not None:
            return Found(_of(methods, method), {})
        if not path.startswith(self._prefixes):
            return None
        for pattern, methods in self._patterns.values():
            match = pattern.fullmatch(path)
            if match is not None:
                # Decoded after the path was taken apart: %2F is part of a name.
                args = {name: unquote(value) for name, value in match.groupdict().items()}
                return Found(_of(methods, method), args)
        return None

    def _methods(self, path: str) -> Methods:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        return self._patterns.setdefault(path, (_compiled(path), {}))[1]


def _compiled(path: str) -> re.Pattern[str]:
    pieces, end = [], 0
    for name in _NAME.finditer(path):
        pieces += [re.escape(path[end : name.start()])]
        pieces += [f"(?P<{name[1]}>{'.+' if name[2] else '[^/]+'})"]
        end = name.end()
    return re.compile("".join([*pieces, re.escape(path[end:])]), re.DOTALL)


def _of(methods: Methods, method: str) -> Endpoint:
    found = methods.get("GET" if method == "HEAD" else method)
    if found is None:
        allow = (*methods, "HEAD") if "GET" in methods else tuple(methods)
        message = f"This path answers to {', '.join(methods)} only."
        raise LauncherError("method_not_allowed", message, allow=allow)
    return found
