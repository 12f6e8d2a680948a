"""Lists of models, and single ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.api.models import Models
from launcher.config import AliasConfig, LauncherConfig
from launcher.errors import LauncherError
from tests.api.world import CONFIG, read, request


async def test_every_model_in_the_shape_of_openai() -> None:
    body = read(await Models(CONFIG, 1234.5).list(request()))

    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["coder-fast", "Qwen/Qwen2.5-Coder", "chat"]
    assert body["data"][0] == {
        "id": "coder-fast",
        "object": "model",
        "created": 1234,
        "owned_by": "launcher",
    }


async def test_one_model_whose_id_holds_a_slash() -> None:
    body = read(await Models(CONFIG, 0).one(request(id="Qwen/Qwen2.5-Coder")))

    assert body["id"] == "Qwen/Qwen2.5-Coder"


async def test_an_alias_is_a_model_like_any() -> None:
    config = replace(CONFIG, aliases=(AliasConfig("any", ("chat",)),))

    assert read(await Models(config, 0).one(request(id="any")))["id"] == "any"
    assert read(await Models(config, 0).list(request()))["data"][-1]["id"] == "any"


async def test_an_unknown_model_names_those_known() -> None:
    with pytest.raises(LauncherError, match=r"coder-fast, Qwen/Qwen2\.5-Coder, chat") as caught:
        await Models(CONFIG, 0).one(request(id="qwen"))

    assert (caught.value.code, caught.value.status) == ("unknown_model", 404)
    assert caught.value.param == "model"


async def test_no_models_is_an_empty_list() -> None:
    assert read(await Models(LauncherConfig(), 0).list(request()))["data"] == []
