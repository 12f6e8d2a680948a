"""`/openai/v1/models` and its like: every model that can be had, aliases included,
without starting any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape
from launcher.config import LauncherConfig
from launcher.errors import LauncherError

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


def _routes(config: LauncherConfig) -> Iterator[tuple[str, frozenset[str]]]:
    """Every model id and alias, and the routes that serve it."""
    by_model = {model.id: route.name for route in config.routes for model in route.models}
    for id, route in by_model.items():
        yield id, frozenset({route})
    for alias in config.aliases:
        yield alias.id, frozenset(by_model[id] for id in alias.models)


class Models:
    """OpenAI's list and its single objects."""

    def __init__(self, config: LauncherConfig, created: float) -> None:
        self._routes = dict(_routes(config))
        self._models: dict[str, Model] = {
            id: Model(id=id, object="model", created=int(created), owned_by="launcher")
            for id in self._routes
        }

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET …/models, GET …/models/{id}"""
        return (
            *(
                Endpoint(
                    method="GET", path=path, need="known", answer=self.list,
                    tag="alias" if suffix else "models", everywhere=True,
                    operation=f"list_models{suffix}",
                    summary="Every model, in OpenAI's shape; starts none.",
                    answers={200: ModelList},
                )
                for path, suffix in MODEL_LISTS.items()
            ),
            *(
                Endpoint(
                    method="GET", path=f"{path}/{{id...}}", need="known", answer=self.one,
                    tag="alias" if suffix else "models", everywhere=True,
                    operation=f"get_model{suffix}",
                    summary="One model; its id may hold `/`.",
                    answers={200: Model},
                )
                for path, suffix in MODEL_LISTS.items()
            ),
        )  # fmt: skip

    async def list(self, request: ApiRequest) -> ApiResponse:
        """GET …/models"""
        return json_answer(ModelList(object="list", data=[*self._seen(request).values()]))

    async def one(self, request: ApiRequest) -> ApiResponse:
        """GET …/models/{id}; an id may hold slashes."""
        seen = self._seen(request)
        found = seen.get(request.args["id"])
        if found is None:
            known = list(seen)
            more = f" and {len(known) - MAX_NAMED} more" if len(known) > MAX_NAMED else ""
            raise LauncherError(
                "unknown_model",
                f"No route serves that model. Known: {', '.join(known[:MAX_NAMED]) or 'none'}"
                f"{more}.",
                param="model",
            )
        return json_answer(found)

    def _seen(self, request: ApiRequest) -> dict[str, Model]:
        """The models that the caller may use."""
        if request.routes is None:
            return self._models
        return {
            id: model
            for id, model in self._models.items()
            if not request.routes.isdisjoint(self._routes[id])
        }
