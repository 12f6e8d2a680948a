"""From files and variables to a configuration, or to all that is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import (
    MIB,
    AliasConfig,
    Health,
    LauncherConfig,
    Listen,
    ModeConfig,
    ModelSpec,
    Secret,
)
from launcher.config.load import load_config
from launcher.drivers.base import ContainerSpec
from launcher.errors import ConfigError
from tests.config.documents import load, problems
from tests.keyring import a_key

EXAMPLE = """
[launcher]
listen = ["0.0.0.0:8000", "unix:/run/launcher.sock"]
idle_timeout = "10m"
start_timeout = "10m"
stop_grace = "20s"
queue_timeout = "20m"
prewarm = ["chat", "big"]
backend_key = "${VLLM_API_KEY:-}"
api_keys = ["sk-client"]
admin_keys = []
trusted_proxies = ["10.0.0.0/8"]
max_body = "32MiB"
policy = "collation"
batch_max_wait = "1h"
home = "chat"
max_lease = "2h"

[aliases]
any-chat = ["chat-general", "reasoner"]

[capacity]
gpu = 1

[routes.coder]
container = "coder-fast"
port = 8000
models = ["coder-fast", "qwen2.5-coder-7b"]
health = "/ready"
idle_timeout = "30m"

[routes.chat]
container = "chat-general"
backend_key = "sk-chat"

[routes.searx]
container = "searxng"
port = 8080
health = "/healthz"
needs = {}
public = true
idle_timeout = "never"

[routes.tiny]
command = ["llama-server", "--port", "{port}", "-m", "tiny.gguf"]

[modes.image]
routes = ["searx", "general"]
ttl = "45m"

[backends.big]
container = "general-reasoner"
health = "docker"
busy = "/queue"

[routes.general]
backend = "big"

[routes.reason]
backend = "big"
models = ["reasoner"]
"""


def test_an_example_of_everything(tmp_path: Path) -> None:
    config = load(tmp_path, EXAMPLE, {"VLLM_API_KEY": "sk-all"})
    assert config.warnings == ()
    assert config.source == f"{tmp_path}/routes.toml"
    assert config.listen == (Listen("0.0.0.0", 8000), Listen(unix_path="/run/launcher.sock"))
    assert config.prewarm == ("chat", "big")
    assert config.keys == (a_key("sk-client", "infer", "observe", name="api_keys:1"),)
    assert config.trusted_proxies == ("10.0.0.0/8",)
    assert config.max_body == 32 * MIB
    assert (config.policy, config.batch_max_wait) == ("collation", 3600.0)
    assert (config.home, config.max_lease) == ("chat", 7200.0)
    assert config.modes == (ModeConfig("image", ("searx", "general"), 2700.0),)
    assert config.aliases == (AliasConfig("any-chat", ("chat-general", "reasoner")),)
    assert [route.name for route in config.routes] == (
        ["coder", "chat", "searx", "tiny", "general", "reason"]
    )
    coder = config.backend(config.routes[0].backends[0])
    assert coder.driver == ContainerSpec("coder-fast", 8000, stop_grace=20.0)
    assert coder.health == Health("http", "/ready")
    assert (coder.needs, coder.idle_timeout, coder.start_timeout) == (None, 1800, 600)
    assert coder.backend_key == Secret("sk-all")
    assert config.routes[0].queue_timeout == 1200
    assert config.backend(config.routes[1].backends[0]).backend_key == Secret("sk-chat")
    searx = config.backend(config.routes[2].backends[0])
    assert (searx.needs, searx.idle_timeout) == ((), float("inf"))
    assert config.routes[2].public
    assert config.routes[4].backends == config.routes[5].backends == ("big",)
    assert config.backend(config.routes[4].backends[0]).busy == "/queue"


def test_secrets_never_show(tmp_path: Path) -> None:
    config = load(tmp_path, EXAMPLE, {"VLLM_API_KEY": "sk-all"})
    for key in ("sk-all", "sk-chat", "sk-client"):
        assert key not in repr(config)
        assert key not in str(config)


LEGACY = {
    "MAP__coder__container": "coder-fast",
    "MAP__coder__port": "8001",
    "MAP__coder__health": "/health",
    "MAP__coder__auth": "inject",
    "MAP__coder__models": "coder-fast, Qwen/Qwen2.5-Coder-7B",
    "MAP__chat__container": "chat-general",
    "IDLE_SECONDS": "120",
    "START_TIMEOUT_SECONDS": "900",
    "PREWARM_ROUTES": "chat",
    "VLLM_API_KEY": "sk-1",
    "DOCKER_HOST_SOCKET": "/run/docker.sock",
}


def test_an_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, LEGACY)
    assert (config.source, config.warnings) == ("environment", ())
    assert [route.name for route in config.routes] == ["chat", "coder"]
    assert config.routes[1].models == (ModelSpec("coder-fast"), ModelSpec("Qwen/Qwen2.5-Coder-7B"))
    assert [backend.driver for backend in config.backends] == [
        ContainerSpec("chat-general", 8000),
        ContainerSpec("coder-fast", 8001),
    ]
    for backend in config.backends:
        assert (backend.idle_timeout, backend.start_timeout) == (120, 900)
        assert backend.backend_key == Secret("sk-1")
    assert config.prewarm == ("chat",)
    assert config.docker_host == "unix:///run/docker.sock"
    assert config.listen == LauncherConfig().listen


def test_the_environment_over_a_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[launcher]\nmax_wait = 1\n[backends.big]\ncontainer = "big"\nport = 1\n'
        '[routes.a]\nbackend = "big"\n[routes.b]\ncontainer = "b"\nport = 2\n',
        {
            "LAUNCHER_MAX_WAIT": "2s",
            "LAUNCHER_API_KEYS": "a,b",
            "LAUNCHER_LISTEN": ":80,unix:/x",
            "MAP__a__container": "own",
            "MAP__b__port": "3",
        },
    )
    assert [route.max_wait for route in config.routes] == [2, 2]
    assert [key.secret for key in config.keys] == [Secret("a"), Secret("b")]
    assert config.listen == (Listen("0.0.0.0", 80), Listen(unix_path="/x"))
    drivers = {backend.id: backend.driver for backend in config.backends}
    assert drivers["a"] == ContainerSpec("own", 8000)
    assert drivers["b"] == ContainerSpec("b", 3)


def test_nothing_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if Path("/etc/launcher/routes.toml").exists():
        pytest.skip("this machine has a configuration of its own")
    with pytest.raises(ConfigError, match="no configuration: there is neither"):
        load_config(None, {})


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.toml: can't be read: No such file"):
        load_config(f"{tmp_path}/x.toml", LEGACY)


def test_everything_wrong_is_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """[launcher]
lisen = ":80"
prewarm = ["cht"]
backend_key = "${NO_SUCH_KEY}"
tls_cert = "x.pem"
[capacity]
gpu = "two"
[routes.chat]
container = "chat"
needs = { gpu = 1 }
port = 0
[routes.api]
container = "api"
[routes.big]
container = "big"
[backends.big]
container = "bigger"
idle = 3
[routes.other]
backend = "big"
container = "x"
""",
        {"LAUNCHER_HEARTBEAT": "soon", "MAP__chat__auth": "basic"},
    )
    assert [problem.split(": ")[0] + ": " + problem.split(": ")[1] for problem in found] == [
        "routes.toml:2: [launcher] lisen",
        "routes.toml:3: [launcher] prewarm",
        "routes.toml:4: [launcher] backend_key",
        "routes.toml:5: [launcher] tls_cert",
        "routes.toml:6: [capacity]",
        "routes.toml:11: [routes.chat] port",
        "routes.toml:12: [routes.api]",
        "routes.toml:14: [routes.big]",
        "routes.toml:18: [backends.big] idle",
        "routes.toml:21: [routes.other] container",
        "environment: LAUNCHER_HEARTBEAT",
        "environment: MAP__chat__auth",
    ]


def test_an_unused_bad_default_is_reported(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, '[launcher]\nidle_timeout = "soon"\n')
    assert found.startswith("routes.toml:2: [launcher] idle_timeout: expected a duration")


def test_surprising_settings_are_warned_of(tmp_path: Path) -> None:
    config = load(tmp_path, '[launcher]\napi_keys = ["${KEY:-}"]\nadmin_keys = []\n')
    assert [warning.replace(f"{tmp_path}/", "") for warning in config.warnings] == [
        "routes.toml:2: [launcher] api_keys: holds no key, so none is asked",
        'routes.toml: has no routes: add a [routes.NAME] with container = "…" or command = ["…"]',
    ]


def test_capacity(tmp_path: Path) -> None:
    assert load(tmp_path, "").capacity == (("gpu", 1),)
    assert load(tmp_path, "[capacity]\n").capacity == ()
    both = load(tmp_path, 'capacity = { vram = "${VRAM}", gpu = 2 }', {"VRAM": "1kB"})
    assert both.capacity == (("gpu", 2), ("vram", 1000))
    (found,) = problems(tmp_path, 'capacity = { vram = "${VRAM}" }')
    assert "${VRAM} is not set" in found
