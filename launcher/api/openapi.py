"""Every endpoint that there is, and `GET /openapi.json`: the API as OpenAPI 3.1, made of what the
endpoints declare.

Also meant for models that use it as a set of tools, as Open WebUI has them do: an operation's
id is the tool's name, its description all that a model is told, and a parameter's schema has
one plain `type`. Pages and aliases are left out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, get_args, get_type_hints

import orjson
from aiohttp import web
from typing_extensions import get_original_bases, is_typeddict

from launcher import __version__
from launcher.api import control, decisions, events, health, leases, legacy, models, page, status
from launcher.api.endpoint import Context, Endpoint, EndpointTable, Request
from launcher.api.shapes import ErrorAnswer, adapter
from launcher.auth.access import Need
from launcher.config import LauncherConfig

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_ABOUT = (
    "Switch, lease and watch the models of a lazy-launch reverse proxy: one address for more"
    " models than fit on a GPU, each started on its first request. Errors come in OpenAI's"
    " envelope; their message says what to do."
)
_TAGS = {
    "status": "What runs, what waits, what was decided.",
    "control": "What operators do.",
    "models": "Every model, in OpenAI's shape.",
}
#: What a name in a path is, by the segment before it.
_NAMED = {
    "backends": "A backend's id, as `get_status` lists it.",
    "leases": "A lease's id: the fencing token that it was given.",
    "models": "A model's id; a `/` in it may stay as it is.",
    "routes": "A route's name, as `get_status` lists it.",
    "switches": "A switch's id, as `switch_to` told it.",
}

_OWN = EndpointTable()


@_OWN.add("GET", "/openapi.json", need="open", tag="page", answers={200: dict[str, Any]})
async def get_openapi(context: Context, request: Request) -> web.Response:
    """This API as OpenAPI 3.1, for clients that make tools of it."""
    # Reading all the shapes takes longer than a stream may be held up.
    body = await asyncio.to_thread(context.once, _body)
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return web.Response(body=body, headers=headers)


#: All of the launcher's own endpoints, in the order of the reference.
ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *page.ENDPOINTS,
    *_OWN,
    *health.ENDPOINTS,
    *models.ENDPOINTS,
    *status.ENDPOINTS,
    *decisions.ENDPOINTS,
    *events.ENDPOINTS,
    *control.ENDPOINTS,
    *leases.ENDPOINTS,
    *legacy.ENDPOINTS,
)


def _body(context: Context) -> bytes:
    listed = [one for one in ENDPOINTS if one.tag in _TAGS]
    return orjson.dumps(document(listed, _keyed(context.config)))


def _keyed(config: LauncherConfig) -> frozenset[Need]:
    """Return the needs for which a key has to be shown."""
    looking = not config.scopes.isdisjoint(("infer", "observe"))
    keyed: dict[Need, bool] = {
        "known": looking,
        "observe": looking,
        "admin": "admin" in config.scopes,
    }
    return frozenset(need for need, is_keyed in keyed.items() if is_keyed)


def document(endpoints: Iterable[Endpoint], keyed: frozenset[Need]) -> Json:
    """Return the OpenAPI document of some endpoints; a key is shown for what is `keyed`."""
    endpoints = list(endpoints)
    schemas, components = _schemas(endpoints)
    paths: dict[str, Json] = {}
    for one in endpoints:
        operation = _operation(one, schemas, secured=one.need in keyed)
        paths.setdefault(one.template, {})[one.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lazy launcher", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of the launcher's configuration.",
                }
            },
        },
    }


Schemas = Mapping[tuple[int, str], Json]
"""By the shape's identity, and whether it is sent (`validation`) or answered."""


def _schemas(endpoints: list[Endpoint]) -> tuple[Schemas, Json]:
    from pydantic import TypeAdapter

    sent = [one.body for one in endpoints if one.body is not None]
    told = [shape for one in endpoints for shape in one.answers.values()]
    inputs: dict[tuple[int, str], object] = {(id(shape), "validation"): shape for shape in sent}
    inputs |= {(id(shape), "serialization"): shape for shape in [*told, ErrorAnswer]}
    made, definitions = TypeAdapter.json_schemas(
        [(key[0], key[1], adapter(shape)) for key, shape in inputs.items()],  # type: ignore[misc]
        ref_template=_REF,
    )
    components = {name: _untitled(one) for name, one in definitions["$defs"].items()}
    for shape in told:
        _inherit(shape, components)
    return made, components  # type: ignore[return-value]


def _inherit(shape: Any, components: Json) -> None:
    """Describe a shape's fields, and those of the shapes in it, as the shapes they come from
    do: pydantic reads the docstrings of a class's own fields alone."""
    for inner in get_args(shape):
        _inherit(inner, components)
    if not is_typeddict(shape):
        return
    own = components.get(shape.__name__, {}).get("properties", {})
    for base in get_original_bases(shape):
        if is_typeddict(base):
            for name, one in adapter(base).json_schema()["properties"].items():
                if "description" in one:
                    own[name].setdefault("description", one["description"])
    for kind in get_type_hints(shape).values():
        _inherit(kind, components)


def _untitled(schema: Json) -> Json:
    """Without the titles that pydantic makes of names: `Instarts` helps nobody."""
    kept = {key: value for key, value in schema.items() if key != "title"}
    if "properties" in kept:
        kept["properties"] = {name: _untitled(one) for name, one in kept["properties"].items()}
    return kept


def _operation(one: Endpoint, schemas: Schemas, *, secured: bool) -> Json:
    operation: Json = {
        "operationId": one.operation,
        "summary": one.summary,
        # All that tool-using clients show to a model.
        "description": f"{one.summary} {one.description}".strip(),
        "tags": [one.tag],
        "parameters": [*_of_path(one.path), *_of_query(one.query)],
        "responses": {
            **{
                str(status): {
                    "description": HTTPStatus(status).phrase,
                    "content": {
                        one.produces: {"schema": schemas[id(shape), "serialization"]},
                    },
                }
                for status, shape in one.answers.items()
            },
            "default": _error(schemas),
        },
    }
    if secured:
        operation["security"] = [{"key": []}]
    if one.body is not None:
        operation["requestBody"] = {
            "required": bool(adapter(one.body).json_schema().get("required")),
            "content": {"application/json": {"schema": schemas[id(one.body), "validation"]}},
        }
    return operation


def _error(schemas: Schemas) -> Json:
    return {
        "description": "It didn't work; the message says why, and what to do.",
        "headers": {
            "Retry-After": {
                "description": "Seconds after which to ask again.",
                "schema": {"type": "integer", "minimum": 1},
            }
        },
        "content": {"application/json": {"schema": schemas[id(ErrorAnswer), "serialization"]}},
    }


def _of_path(path: str) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _NAMED[collection],
            "schema": {"type": "string", "minLength": 1},
        }
        for collection, name in re.findall(r"(\w+)/\{(\w+)(?:\.\.\.)?\}", path)
    ]


def _of_query(of: type | None) -> list[Json]:
    if of is None:
        return []
    schema = adapter(of).json_schema()
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": one.get("description", ""),
            "schema": _plain(one),
        }
        for name, one in schema["properties"].items()
    ]


def _plain(schema: Json) -> Json:
    """A query's value is there or isn't, and never null: what is left is one plain type."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    kept = {key: schema[key] for key in schema if key not in ("anyOf", "title", "description")}
    if kept.get("default", ...) is None:
        del kept["default"]
    return kept | (kinds[0] if kinds else {})
