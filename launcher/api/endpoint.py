"""What is said of an endpoint: once, beside the code that answers.

The router, the check of what is sent, docs/reference.md and /openapi.json all read it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from launcher.api.contract import Answer
from launcher.auth.access import Need

Tag = Literal["status", "control", "models", "page", "alias"]
"""`page` is for browsers and `alias` for callers of older switchers; /openapi.json leaves both
out, since a tool server's clients would offer them as tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One of the launcher's own endpoints. Shapes are described in `launcher.api.shapes`."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    """GET answers HEAD as well."""
    path: str
    """`/api/switches/{id}`: a name in braces is one segment; a last `{id...}` swallows slashes."""
    need: Need
    everywhere: bool = False
    """For clients, and so at their addresses, too, where operators have some of their own."""
    answer: Answer
    operation: str
    """The operationId: a verb and what it is done to, `start_route`."""
    summary: str
    """One sentence, for a table and for a model that chooses among tools."""
    description: str = ""
    """What else a caller has to know, in whole sentences."""
    tag: Tag
    body: type | None = None
    """Shape of the JSON body; None: none is looked at."""
    query: type | None = None
    """Shape of the query; None: none is looked at."""
    answers: Mapping[int, object] = field(default_factory=dict)
    """Status → shape of the answer's JSON, for each status but errors'."""
    produces: str = "application/json"
    """Media type of the answer."""

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it: `/v1/models/{id}`."""
        return self.path.replace("...}", "}")


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint for a method and path."""

    endpoint: Endpoint
    args: Mapping[str, str]
    """What the path's names stand for, percent-decoded."""


class OwnEndpoints(Protocol):
    """What the proxy's handler asks before it looks for a route."""

    def find(self, method: str, path: str, *, operators: bool) -> Found | None:
        """The endpoint, None where the path isn't one of ours (without `operators`: none of
        those that are for clients). Raises LauncherError (`method_not_allowed`) where it is, but
        not for this method. HEAD is found as GET."""
        ...
