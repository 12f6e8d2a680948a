"""What callers send, checked against the shape that an endpoint declares: the one place.

A shape is a frozen dataclass (what is sent) or a TypedDict (what is answered) under `@shape`;
the docstrings of its fields are its documentation. Shapes are plain: pydantic reads them when
the first one is needed, since a launcher that only serves models never needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypeVar
from urllib.parse import parse_qsl

import orjson
from typing_extensions import TypedDict

from launcher.errors import LauncherError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

C = TypeVar("C", bound=type)

#: pydantic's configuration of every shape (`pydantic.ConfigDict`). What isn't known is refused:
#: a misspelt key that is ignored does something else than was meant.
_CONFIG = {"extra": "forbid", "use_attribute_docstrings": True, "allow_inf_nan": False}


def shape(cls: C) -> C:
    """Mark a dataclass or a TypedDict as a shape."""
    cls.__pydantic_config__ = _CONFIG  # type: ignore[attr-defined]
    return cls


@shape
class ErrorFields(TypedDict):
    """What went wrong, as OpenAI's API says it."""

    message: str
    """Says what to do next."""
    type: str
    code: str
    """A code of the reference's table of errors."""
    param: str | None
    """The key or parameter that is wrong."""
    detail: NotRequired[str]
    """Log lines, an exit code: for operators only."""


@shape
class ErrorAnswer(TypedDict):
    """The envelope of every error."""

    error: ErrorFields


class Limits:
    """A condition on a field's value, in `Annotated`: `Annotated[int, Limits(ge=1)]`.

    `ge` and `le` bound a number; `min_length`, `max_length` and `pattern` (a regular expression
    that has to match somewhere) are for text, the lengths for lists as well. Stands next to the
    type itself, inside of a union.
    """

    def __init__(self, **limits: float | str) -> None:
        self._limits = limits

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return handler(source) | self._limits


class _Flag:
    """`?wait` alone says yes."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(
            lambda value: "true" if value == "" else value, handler(source)
        )


Flag = Annotated[bool, _Flag]
"""A yes or no of a query: `?wait`, `?wait=1`, `?wait=true`, `?wait=yes`."""


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter(of: Any) -> TypeAdapter[Any]:
    """pydantic's reading of a shape, or of whatever type an answer has."""
    found = _ADAPTERS.get(of)
    if found is None:
        from pydantic import TypeAdapter

        found = _ADAPTERS[of] = TypeAdapter(of)
    return found


async def learn(*shapes: type | None) -> None:
    """Read shapes before they are needed, off the loop where that takes its time: the first
    one loads pydantic, which no stream may wait for."""
    for one in shapes:
        if one is not None and one not in _ADAPTERS:
            await asyncio.to_thread(adapter, one)


def from_query(of: type | None, raw: bytes | None) -> object:
    """A query (without `?`) as the shape; of a name that is given twice the last one counts.

    Raises `invalid_request`.
    """
    if of is None:
        return None
    from pydantic import ValidationError

    given = dict(parse_qsl((raw or b"").decode("utf-8", "replace"), keep_blank_values=True))
    try:
        return adapter(of).validate_python(given)
    except ValidationError as error:
        raise _refused(error, of, "query parameter") from None


def check_media_type(of: type | None, content_type: bytes | None, *, has_body: bool) -> None:
    """Before anything is read. Raises `unsupported_media_type`: what a web page can send to
    another site without asking (a form, plain text) is no JSON."""
    if of is None or (content_type is None and not has_body):
        return
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise LauncherError(
            "unsupported_media_type",
            "The body has to be JSON, and to say so: send `Content-Type: application/json`.",
        )


def from_json(of: type | None, raw: bytes, args: Mapping[str, str] | None = None) -> object:
    """A body as the shape; an empty one stands for `{}`.

    It may repeat what the path says (`args`): Open WebUI puts all the parameters of a tool into
    its body. Raises `invalid_json` where it is no JSON, `invalid_request` where it isn't of the
    shape.
    """
    if of is None:
        return None
    from pydantic import ValidationError

    try:
        return adapter(of).validate_json(raw or b"{}", strict=True)
    except ValidationError as error:
        less = _without(raw, args or {})
        if less is None:
            raise _refused(error, of, "key") from None
        return from_json(of, less)


def _without(raw: bytes, args: Mapping[str, str]) -> bytes | None:
    """The body without what it repeats; None where it repeats nothing."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    less = {key: value for key, value in body.items() if args.get(key) != str(value)}
    return None if len(less) == len(body) else orjson.dumps(less)


def _refused(error: ValidationError, of: type, what: str) -> LauncherError:
    """The first thing that is wrong, in a sentence that says where and what would do."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first = found[0]
    # Of a value that may be of several kinds each is an error, and the last step its name.
    same = [one for one in found if one["loc"][:1] == first["loc"][:1]]
    locations = [one["loc"] for one in same]
    steps = takewhile(lambda step: len({*step}) == 1, zip(*locations, strict=False))
    where = ".".join(str(step[0]) for step in steps) or None
    kind, told = first["type"], str(first["msg"]).rstrip(".")
    if kind == "json_invalid":
        return LauncherError("invalid_json", f"The body is no JSON. {told}.")
    known = _listed(of.__dataclass_fields__)  # type: ignore[attr-defined]
    if where is None:
        message = f"The body has to be a JSON object. Known keys: {known}."
    elif kind in ("unexpected_keyword_argument", "extra_forbidden"):
        message = f"`{where}` is no {what} that is known here. Known: {known}."
    elif kind in ("missing", "missing_argument"):
        message = f"The {what} `{where}` is missing. Known: {known}."
    else:
        those = (str(one["msg"]).rstrip(".") for one in same)
        words = dict.fromkeys(f"{one[0].lower()}{one[1:]}" for one in those)
        message = f"`{where}`: {'; or '.join(words)}."
    return LauncherError("invalid_request", message, param=where)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
