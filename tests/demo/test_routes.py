from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from launcher.config import RESERVED
from launcher.config.load import load_config
from launcher.demo.routes import DemoModel, route_names, routes_toml
from launcher.drivers.base import ProcessSpec


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("sea.gguf", "sea"),
        ("Qwen2.5-7B-Instruct_Q4_K_M.gguf", "qwen2-5-7b-instruct-q4-k-m"),
        ("日本.gguf", "model"),
        ("v1.gguf", "v1-model"),
    ],
)
def test_a_route_is_named_after_the_file(file: str, name: str) -> None:
    assert route_names([Path("/models", file)]) == (name,)
    assert name not in RESERVED


def test_files_of_one_name_get_routes_of_their_own() -> None:
    paths = [Path("/a/x.gguf"), Path("/b/x.gguf"), Path("/c/x.gguf")]
    assert route_names(paths) == ("x", "x-2", "x-3")


@pytest.mark.parametrize("directory", ["/plain", '/with "quotes" and \\', "/with ${HOME} and $x"])
def test_what_it_writes_is_read_back_as_meant(tmp_path: Path, directory: str) -> None:
    models = [
        DemoModel("one", Path(directory, "one.gguf"), ("--threads", "1")),
        DemoModel("two", Path(directory, "two.gguf")),
    ]
    file = tmp_path / "routes.toml"
    file.write_text(routes_toml("127.0.0.1:8123", models))
    tomllib.loads(file.read_text())

    config = load_config(str(file), {})
    assert [str(listen) for listen in config.listen] == ["127.0.0.1:8123"]
    assert config.warnings == ()
    assert [route.name for route in config.routes] == ["one", "two"]
    assert [model.id for route in config.routes for model in route.models] == ["one", "two"]
    for backend, model in zip(config.backends, models, strict=True):
        assert backend.needs is None  # all of the capacity: one at a time
        assert isinstance(backend.driver, ProcessSpec)
        command = list(backend.driver.command)
        assert command[command.index("--model") + 1] == str(model.path)
        assert command[command.index("--port") + 1] == "{port}"
        assert command[command.index("--alias") + 1] == model.name
        assert command[len(command) - len(model.options) :] == list(model.options)
