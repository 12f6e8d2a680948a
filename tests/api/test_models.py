"""Lists of models, and single ones."""

from __future__ import annotations

from dataclasses import replace

from launcher.config import AliasConfig, LauncherConfig
from tests.api.world import CONFIG, WALL, a_context, asking


async def test_every_model_in_the_shape_of_openai() -> None:
    async with asking() as here:
        told = (await here.get("/v1/models")).json

    assert told["object"] == "list"
    assert [model["id"] for model in told["data"]] == ["coder-fast", "Qwen/Qwen2.5-Coder", "chat"]
    assert told["data"][0] == {
        "id": "coder-fast",
        "object": "model",
        "created": int(WALL),
        "owned_by": "launcher",
    }


async def test_an_alias_is_a_model_like_any() -> None:
    config = replace(CONFIG, aliases=(AliasConfig("any", ("chat",)),))
    async with asking(a_context(config=config)) as here:
        assert (await here.get("/v1/models/any")).json["id"] == "any"
        assert (await here.get("/v1/models")).json["data"][-1]["id"] == "any"


async def test_an_unknown_model_names_those_known() -> None:
    async with asking() as here:
        answer = await here.get("/v1/models/qwen")

    assert (answer.status, answer.code) == (404, "unknown_model")
    assert answer.json["error"]["param"] == "model"
    assert "coder-fast, Qwen/Qwen2.5-Coder, chat" in answer.json["error"]["message"]


async def test_no_models_is_an_empty_list() -> None:
    async with asking(a_context(config=LauncherConfig())) as here:
        assert (await here.get("/openai/v1/models")).json["data"] == []
