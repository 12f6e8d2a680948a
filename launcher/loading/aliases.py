"""[aliases] → model ids that stand for others, each member of which can take the same requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.config import AliasConfig, RouteConfig
from launcher.loading import tables, units
from launcher.loading.read import Document, Value, did_you_mean

#: What has to be known of a request before anybody knows which member serves it, and would
#: break a promise of the others if the first spoke for all.
AGREED = ("public", "wake")


def read(
    document: Document, environ: Mapping[str, str], routes: Sequence[RouteConfig]
) -> tuple[AliasConfig, ...]:
    """The aliases of a document; what is wrong with them is among its problems."""
    by_model = {model.id: route for route in routes for model in route.models}
    found = []
    for alias, value in document.aliases.items():
        try:
            found.append(_alias(alias, value, document, environ, by_model))
        except ValueError as error:
            document.problems.append(f"{value.where}: {error}")
    return tuple(found)


def _alias(
    alias: str,
    value: Value,
    document: Document,
    environ: Mapping[str, str],
    by_model: Mapping[str, RouteConfig],
) -> AliasConfig:
    """One alias. Raises ValueError with what is wrong with it first."""
    if not alias.strip() or not alias.isprintable() or alias != alias.strip():
        raise ValueError("an alias is a model id: printable, and no blanks around it")
    if alias in by_model:
        raise ValueError(
            f"is a model of [routes.{by_model[alias].name}] already: give one of the two another id"
        )
    try:
        models = units.texts(tables.expand(value.raw, environ))
    except ValueError as error:
        if isinstance(error, tables.Unresolved):
            raise
        raise ValueError('expected a list of model ids: ["chat-general", "coder"]') from None
    if not models:
        raise ValueError("names no model: list the ids that may serve it, the preferred one first")
    for model in models:
        if model in document.aliases:
            raise ValueError(f'"{model}" is an alias itself: name its models instead')
        if model not in by_model:
            raise ValueError(f'no route serves the model "{model}"{did_you_mean(model, by_model)}')
        if models.count(model) > 1:
            raise ValueError(f'model "{model}" is listed twice')
    _check_members(models, by_model)
    return AliasConfig(alias, models)


def _check_members(models: Sequence[str], by_model: Mapping[str, RouteConfig]) -> None:
    first = by_model[models[0]]
    held = dict.fromkeys(first.backends, models[0])
    for model in models[1:]:
        route = by_model[model]
        for name in AGREED:
            if getattr(route, name) != getattr(first, name):
                raise ValueError(
                    f"[routes.{first.name}] and [routes.{route.name}] differ in {name}, and a "
                    "request for the alias may go to either: make them agree, or leave one out"
                )
        if all(backend in held for backend in route.backends):
            taken = held[route.backends[0]] if route.backends else models[0]
            raise ValueError(
                f'"{model}" would never serve it, for "{taken}" has the same backend and comes '
                "first: leave one of the two out"
            )
        held |= {backend: model for backend in route.backends if backend not in held}
