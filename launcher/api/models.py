"""`/openai/v1/models` and its like: every model that can be had, aliases included,
without starting any."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.endpoint import Context, EndpointTable, Request
from launcher.api.shapes import shape
from launcher.errors import LauncherError

ENDPOINTS = EndpointTable()

#: Where lists of models are asked for, and what the operation's name ends in there.
MODEL_LISTS = {"/openai/v1/models": "", "/openai/models": "_at_openai", "/v1/models": "_at_v1"}

#: Ids named in an error message; the list endpoint has them all.
MAX_NAMED = 50


@shape
class Model(TypedDict):
    """A model in OpenAI's shape."""

    id: str
    """What a request's `model` says."""
    object: Literal["model"]
    created: int
    """Seconds since 1970; of the configuration's loading, since clients require a time."""
    owned_by: str


@shape
class ModelList(TypedDict):
    """Every model that the caller can have."""

    object: Literal["list"]
    data: list[Model]


async def list_models(context: Context, request: Request) -> web.Response:
    """Every model, in OpenAI's shape; starts none."""
    return json_answer(ModelList(object="list", data=[*_visible(context, request).values()]))


async def get_model(context: Context, request: Request) -> web.Response:
    """One model; its id may hold `/`."""
    models = _visible(context, request)
    found = models.get(request.args["id"])
    if found is None:
        known = list(models)
        more = f" and {len(known) - MAX_NAMED} more" if len(known) > MAX_NAMED else ""
        raise LauncherError(
            "unknown_model",
            f"No route serves that model. Known: {', '.join(known[:MAX_NAMED]) or 'none'}{more}.",
            param="model",
        )
    return json_answer(found)


for _path, _suffix in MODEL_LISTS.items():
    ENDPOINTS.add(
        "GET", _path, need="known", tag="alias" if _suffix else "models", everywhere=True,
        operation=f"list_models{_suffix}", answers={200: ModelList},
    )(list_models)  # fmt: skip
for _path, _suffix in MODEL_LISTS.items():
    ENDPOINTS.add(
        "GET", f"{_path}/{{id...}}", need="known", tag="alias" if _suffix else "models",
        everywhere=True, operation=f"get_model{_suffix}", answers={200: Model},
    )(get_model)  # fmt: skip


def _visible(context: Context, request: Request) -> dict[str, Model]:
    """Return the models that the caller may use."""
    models = context.once(_models)
    if request.routes is None:
        return models
    routes = context.once(_routes)
    return {id: one for id, one in models.items() if not request.routes.isdisjoint(routes[id])}


def _models(context: Context) -> dict[str, Model]:
    return {
        id: Model(id=id, object="model", created=int(context.loaded_at), owned_by="launcher")
        for id in context.once(_routes)
    }


def _routes(context: Context) -> dict[str, frozenset[str]]:
    """Return every model id and alias, and the names of the routes that serve it."""
    routes = {
        model.id: frozenset({route.name})
        for route in context.config.routes
        for model in route.models
    }
    aliases = {
        alias.id: frozenset[str]().union(*(routes[id] for id in alias.models))
        for alias in context.config.aliases
    }
    return routes | aliases
