"""`/routes`: the table, and nothing secret in it."""

from __future__ import annotations

from dataclasses import replace

from launcher.api.routes import Routes, mask
from launcher.config import AliasConfig
from tests.api.world import CONFIG, read, request


async def test_the_table_as_configured() -> None:
    body = read(await Routes(CONFIG, lambda text: text).list(request()))

    coder, chat, tiny = body["routes"]
    assert coder == {
        "route": "coder",
        "container": "coder-fast",
        "port": 8000,
        "health": "/health",
        "auth": "inject",
        "models": ["coder-fast", "Qwen/Qwen2.5-Coder"],
        "prefixes": ["/coder"],
        "hosts": [],
        "priority": "normal",
        "wake": "always",
        "backends": ["coder"],
        "needs": {"gpu": 1},
        "maxInFlight": None,
        "idleTimeoutSeconds": 1800.0,
        "public": False,
    }
    assert (chat["health"], chat["auth"]) == ("docker", "passthrough")
    assert tiny["needs"] == {}
    assert tiny["idleTimeoutSeconds"] is None
    assert tiny["port"] is None
    assert tiny["public"] is True


async def test_aliases_stand_beside_the_routes() -> None:
    config = replace(CONFIG, aliases=(AliasConfig("any", ("chat", "coder-fast")),))
    body = read(await Routes(config, lambda text: text).list(request()))

    assert body["aliases"] == [{"alias": "any", "models": ["chat", "coder-fast"]}]


async def test_a_command_shows_no_secrets() -> None:
    answer = await Routes(CONFIG, lambda text: text.replace("tiny.gguf", "***")).list(request())

    tiny = read(answer)["routes"][2]
    assert tiny["command"] == ["llama-server", "--api-key", "***", "-m", "***"]
    assert tiny["container"] is None, "who reads the table finds the key in every row"


def test_values_of_options_named_like_secrets_are_hidden() -> None:
    command = ("env", "HF_TOKEN=hf_1", "vllm", "--api-key=sk", "--password", "pw", "--port", "1")

    assert mask(command) == [
        *("env", "HF_TOKEN=***", "vllm", "--api-key=***", "--password", "***", "--port", "1")
    ]
    assert mask(("tool", "--token", "--keys", "x")) == ["tool", "--token", "***", "x"]
    assert mask(("monkey", "turkey")) == ["monkey", "turkey"]
