"""For end-to-end tests: containers with names of their own that are gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.drivers import images, private_engine

Make = Callable[..., str]


@pytest.fixture
def container() -> Iterator[Make]:
    """Creates a container of the scripted backend: `container("coder", START_DELAY="3")`
    gives its full name. Removed at the end, unless it is on another engine (`host`)."""
    prefix = f"lzt-e2e-{os.getpid()}-"

    def make(
        name: str,
        *,
        options: tuple[str, ...] = (),
        health: str | None = None,
        host: str | None = None,
        **env: str,
    ) -> str:
        values = {"BACKEND_NAME": name} | {f"BACKEND_{key}": value for key, value in env.items()}
        images.create(prefix + name, env=values, options=options, health=health, host=host)
        return prefix + name

    try:
        yield make
    finally:
        images.sweep(prefix)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[private_engine.PrivateEngine]:
    """A Docker Engine of the test's own, given the options that it is parametrized with."""
    if not private_engine.available() and not os.environ.get("CI"):
        pytest.skip("needs root, dockerd and ip")
    with private_engine.running(*getattr(request, "param", ())) as engine:
        yield engine


@pytest.fixture(scope="session", autouse=True)
def no_image_left() -> Iterator[None]:
    """The image that `container` built goes with the session."""
    yield
    images.remove()
