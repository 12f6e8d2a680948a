"""The API's description, as its readers take it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any

import orjson
from typing_extensions import TypedDict

from launcher.api.endpoint import Context, Endpoint, EndpointTable, Request, Stream
from launcher.api.openapi import ENDPOINTS, document
from launcher.api.shapes import Flag, Limits, shape
from tests.api.world import CONFIG, a_context, asking
from tests.keyring import admin


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted."""

    route: str | None
    """A route."""
    ttl: Annotated[float, Limits(ge=1)] = 60.0


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How."""

    wait: Flag = False
    """Wait for it."""
    backend: str | None = None


@shape
class Told(TypedDict):
    """What is told."""

    id: int
    """Its number."""


TABLE = EndpointTable()


@TABLE.add(
    "PUT", "/api/leases/{id}", need="admin", tag="control", body=Wish, query=How,
    answers={200: Told},
)  # fmt: skip
async def wish(context: Context, request: Request) -> Stream:
    """Wish
    for it.

    Twice.

    Or more.
    """
    raise AssertionError("not asked")


(WISHES,) = TABLE


def of(*endpoints: Endpoint, keyed: bool = True) -> Any:
    return document(endpoints, frozenset({"admin"}) if keyed else frozenset())


def test_an_operation_says_what_its_endpoint_declares() -> None:
    operation = of(WISHES)["paths"]["/api/leases/{id}"]["put"]

    assert operation["operationId"] == "wish"
    assert operation["description"] == "Wish for it. Twice. Or more."
    assert operation["security"] == [{"key": []}]
    name, wait, backend = operation["parameters"]
    assert (name["in"], name["name"], name["required"]) == ("path", "id", True)
    assert (wait["in"], wait["required"], wait["description"]) == ("query", False, "Wait for it.")
    assert wait["schema"] == {"type": "boolean", "default": False}
    assert backend["schema"] == {"type": "string"}
    assert operation["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}},
    }
    answers = operation["responses"]
    assert answers["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Told")
    assert answers["default"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "/ErrorAnswer"
    )


def test_a_shape_is_described_by_its_docstrings() -> None:
    schemas = of(WISHES)["components"]["schemas"]

    assert schemas["Wish"] == {
        "type": "object",
        "description": "What is wanted.",
        "additionalProperties": False,
        "properties": {
            "route": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "A route."},
            "ttl": {"type": "number", "minimum": 1, "default": 60.0},
        },
        "required": ["route"],
    }
    assert schemas["Told"]["properties"]["id"]["description"] == "Its number."


@shape
class Base(TypedDict):
    """What others are made of."""

    since: str
    """Since when."""


@shape
class Inner(Base):
    """More than the base."""

    more: int | None
    """How much more."""


@shape
class Outer(TypedDict):
    """Holds others."""

    inner: list[Inner] | None


def test_inherited_fields_are_described_as_where_they_come_from() -> None:
    schemas = of(replace(WISHES, answers={200: Outer}))["components"]["schemas"]

    fields = schemas["Inner"]["properties"]
    assert fields["since"]["description"] == "Since when."
    assert fields["more"]["description"] == "How much more."


def test_without_keys_none_is_asked_for() -> None:
    assert "security" not in of(WISHES, keyed=False)["paths"]["/api/leases/{id}"]["put"]


def references(part: object) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(references(one) for one in part.values()))
    if isinstance(part, list):
        return set().union(*(references(one) for one in part))
    return set()


async def the_document() -> Any:
    async with asking(a_context(config=replace(CONFIG, keys=admin("root")))) as here:
        made = (await here.get("/openapi.json")).json
        assert (await here.get("/openapi.json")).json == made
        return made


async def test_the_whole_document_holds_together() -> None:
    made = await the_document()

    assert made["openapi"] == "3.1.0"
    schemas = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert references(made) <= schemas
    operations = [one for path in made["paths"].values() for one in path.values()]
    assert len(operations) > 8
    assert made["paths"]["/api/reload"]["post"]["security"]
    assert "security" not in made["paths"]["/api/status"]["get"]


async def test_pages_and_aliases_are_no_tools() -> None:
    paths = (await the_document())["paths"]

    assert "/" not in paths
    assert "/v1/models" not in paths
    assert "/openai/v1/models/{id}" in paths


def as_tools(made: Any) -> dict[str, Any]:
    """The operations as clients that call them as tools read them: the name and the
    description of each, the `type` of each parameter."""
    return {
        one["operationId"]: {
            "description": one["description"],
            "types": {p["name"]: p["schema"].get("type") for p in one["parameters"]},
            "texts": [p["description"] for p in one["parameters"]],
        }
        for path in made["paths"].values()
        for one in path.values()
    }


async def test_every_operation_can_be_a_tool() -> None:
    made = await the_document()

    for name, tool in as_tools(made).items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name), name
        assert tool["description"].endswith("."), name
        assert all(isinstance(kind, str) for kind in tool["types"].values()), (name, tool)
        assert all(tool["texts"]), (name, tool)
    assert orjson.dumps(made).count(b'"title"') == 1  # the document's own


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [one.operation for one in ENDPOINTS]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]+", name)] == []


def test_every_endpoint_that_answers_json_says_what_is_in_it() -> None:
    silent = [
        f"{one.method} {one.path}"
        for one in ENDPOINTS
        if one.produces == "application/json" and not one.answers
    ]
    assert silent == []


def test_every_summary_is_a_sentence() -> None:
    assert [one.path for one in ENDPOINTS if not one.summary.endswith(".")] == []


def names_of(schema: Any) -> set[str]:
    """The names of all properties and parameters in it."""
    if isinstance(schema, list):
        return set().union(*(names_of(one) for one in schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    if "in" in schema and "name" in schema:
        own.add(schema["name"])
    return own.union(*(names_of(one) for one in schema.values()))


def test_names_in_json_are_snake_case_everywhere() -> None:
    listed = [one for one in ENDPOINTS if one.tag in ("status", "control", "models")]
    names = names_of(document(listed, frozenset()))
    assert len(names) > 100
    assert [name for name in sorted(names) if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)] == []


def test_no_two_endpoints_are_at_one_place() -> None:
    places = [(one.method, one.path) for one in ENDPOINTS]
    assert len(set(places)) == len(places)
