"""The project's image: built on a base made of local files, and run as the compose file does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import launcher
from tests import base_image
from tests.drivers import images
from tests.drivers.images import docker

ROOT = Path(__file__).resolve().parent.parent
PREFIX = f"lzt-image-{os.getpid()}-"
SOCKET = Path("/var/run/docker.sock")

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def wheels(folder: Path) -> None:
    """Everything that the build installs, by this machine's own pip and its settings."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--dest", folder, ROOT, "hatchling"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip("pip can't get the packages that the image holds")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, built without a network from what `.dockerignore` lets through."""
    context = tmp_path_factory.mktemp("context")
    wheels(context / "wheels")
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(ROOT / "launcher", context / "launcher")
    base, build, tag = f"{PREFIX}base", f"{PREFIX}build", f"{PREFIX}launcher"
    base_image.build(base)
    arguments = ("--build-arg", f"BASE={base}", "--build-arg", "PIP_NO_INDEX=1", str(context))
    offline = ("build", "--quiet", "--network", "none")
    try:
        # The first stage by name, too, so that nothing nameless is left behind.
        docker(*offline, "--target", "build", "--tag", build, *arguments)
        docker(*offline, "--tag", tag, *arguments)
        yield tag
    finally:
        images.sweep(PREFIX)
        for made in (tag, build, base):
            # Unchecked: what was never made needs no removal.
            subprocess.run(["docker", "rmi", "-f", made], capture_output=True, check=False)


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition, for as long as a busy machine may need."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def serve(image: str, name: str, *options: str, **environ: str) -> str:
    """Run the launcher as its image does by default; returns its URL."""
    variables = [word for key, value in environ.items() for word in ("--env", f"{key}={value}")]
    docker(
        *("run", "--detach", "--name", name, "--label", f"{images.LABEL}=1"),
        *("--publish", "127.0.0.1::8000", *options, *variables, image),
    )
    address = docker("port", name, "8000/tcp").splitlines()[0]
    return f"http://{address}"


def get(url: str) -> tuple[int, bytes]:
    """Status and body; 0 while nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def test_it_holds_the_launcher_and_little_else(image: str) -> None:
    assert launcher.__version__ in docker("run", "--rm", image, "--version")
    listed = docker(
        *("run", "--rm", "--entrypoint", "python3", image, "-c"),
        "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))",
    ).split()
    assert "lazy-launcher" in listed
    assert {"pip", "pytest", "numpy", "xllamacpp"}.isdisjoint(listed)


def test_it_is_not_root_and_can_keep_its_state(image: str) -> None:
    code = (
        "import os, sys, tempfile; tempfile.TemporaryFile(dir='/var/lib/launcher').close(); "
        "print(os.getuid(), os.getgid(), os.access('/opt/launcher', os.W_OK))"
    )
    said = docker("run", "--rm", "--entrypoint", "python3", image, "-c", code)
    assert said == "65532 65532 False"


def test_it_serves_an_environment_alone_and_ends_when_told(image: str) -> None:
    name = f"{PREFIX}environment"
    url = serve(image, name, MAP__coder__container="no-such-container")
    eventually(lambda: get(f"{url}/healthz")[0] == 200, "it doesn't come up")
    eventually(
        lambda: images.show(name)["State"]["Health"]["Status"] == "healthy", "its HEALTHCHECK fails"
    )
    docker("stop", "--time", "60", name)
    state = images.show(name)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


@pytest.mark.skipif(not SOCKET.is_socket(), reason="the engine's socket is elsewhere")
def test_it_starts_a_container_through_the_sockets_group(image: str, tmp_path: Path) -> None:
    images.create(f"{PREFIX}backend", env={"BACKEND_NAME": "from-inside"})
    routes = tmp_path / "routes.toml"
    routes.write_text(
        f"[launcher]\nlisten = '0.0.0.0:8000'\n[routes.coder]\ncontainer = '{PREFIX}backend'\n"
    )
    routes.chmod(0o644)
    tmp_path.chmod(0o755)
    url = serve(
        image,
        f"{PREFIX}socket",
        *("--volume", f"{SOCKET}:{SOCKET}", "--group-add", str(SOCKET.stat().st_gid)),
        *("--volume", f"{routes}:/etc/launcher/routes.toml:ro"),
    )
    eventually(lambda: get(f"{url}/readyz")[0] == 200, "it isn't ready")
    status, body = get(f"{url}/coder/v1/models")
    assert status == 200, body
    assert json.loads(body)["data"]
