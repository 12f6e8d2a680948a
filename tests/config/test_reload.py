"""One reload after the other; all of it or nothing, and the log says which."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import tasks
from launcher.config import BackendConfig, LauncherConfig, Listen, RouteConfig
from launcher.config.difference import Difference, Names
from launcher.config.reload import Reloader, changes, files_of, summary
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec, DriverSpec
from launcher.errors import ConfigError
from tests.keyring import api

A = BackendId("a")
CONFIG = LauncherConfig(
    routes=(RouteConfig("a", (A,), ("/a",)),),
    backends=(BackendConfig(A, ContainerSpec("a", 8000)),),
)


class Launcher:
    """Has a configuration, and takes another."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.taken: list[LauncherConfig] = []
        self.file: LauncherConfig | ConfigError = CONFIG
        self.problem: ConfigError | None = None
        self.stopping: dict[BackendId, DriverSpec] = {}

    def leaving(self) -> Mapping[BackendId, DriverSpec]:
        return self.stopping

    def take(self, config: LauncherConfig) -> None:
        if self.problem is not None:
            raise self.problem
        self.config = config
        self.taken.append(config)

    def load(self) -> LauncherConfig:
        if isinstance(self.file, ConfigError):
            raise self.file
        return self.file


@pytest.fixture
def launcher() -> Launcher:
    return Launcher()


@pytest.fixture
def reloader(launcher: Launcher) -> Reloader:
    return Reloader(launcher.load, launcher)


async def test_what_differs_is_applied_and_told(
    launcher: Launcher, reloader: Reloader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "launcher")
    launcher.file = replace(
        CONFIG, max_body=1, listen=(Listen("127.0.0.1", 1),), warnings=("it may surprise",)
    )
    done = await reloader.reload("SIGHUP")
    assert done.difference == Difference(settings=("max_body",), needs_restart=("listen",))
    assert done.warnings == ("it may surprise",)
    assert (launcher.config.max_body, launcher.config.listen) == (1, CONFIG.listen)
    told = [one.getMessage() for one in caplog.records]
    assert told[0].startswith("reload (SIGHUP) in ")
    assert told[0].endswith(" ms: changed max_body")
    assert told[1:] == ["reload: listen is as it was: it needs a restart", "it may surprise"]
    again = await reloader.reload("SIGHUP")
    assert again.difference == Difference(needs_restart=("listen",))


async def test_a_new_exposure_is_warned_of_once(launcher: Launcher, reloader: Reloader) -> None:
    launcher.config = replace(CONFIG, listen=(Listen("0.0.0.0", 80),), keys=api("k"))
    launcher.file = replace(launcher.config, keys=())
    first, second = (await reloader.reload("SIGHUP")).warnings
    assert "may use every model" in first
    assert "sees status" in second
    assert (await reloader.reload("SIGHUP")).warnings == ()


@pytest.mark.parametrize("where", ["file", "problem"])
async def test_what_is_wrong_changes_nothing(
    launcher: Launcher, reloader: Reloader, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    error = ConfigError(["r.toml:1: one", "r.toml:2: two"])
    setattr(launcher, where, error)
    with pytest.raises(ConfigError) as caught:
        await reloader.reload("SIGHUP")
    assert caught.value is error
    assert launcher.taken == []
    (told,) = caplog.records
    assert told.getMessage() == "reload (SIGHUP): nothing was changed: 2 problems"
    assert told.fields == {"detail": "r.toml:1: one\nr.toml:2: two"}  # type: ignore[attr-defined]
    setattr(launcher, where, CONFIG if where == "file" else None)
    await reloader.reload("SIGHUP")
    assert launcher.taken == [CONFIG], "the next one may be good"


async def test_a_truncated_file_changes_nothing(launcher: Launcher, reloader: Reloader) -> None:
    launcher.file = LauncherConfig(routes=(), backends=(), source="r.toml")
    with pytest.raises(ConfigError) as caught:
        await reloader.reload("SIGHUP")
    assert caught.value.problems == ["r.toml: has no routes any more"]
    assert launcher.taken == []
    # Who began without any may go on so.
    launcher.config = launcher.file
    assert not (await reloader.reload("SIGHUP")).difference


async def test_a_table_under_another_name_is_the_same_backend(
    launcher: Launcher, reloader: Reloader
) -> None:
    other = BackendId("b")
    launcher.file = LauncherConfig(
        routes=(RouteConfig("b", (other,), ("/b",)),),
        backends=(BackendConfig(other, ContainerSpec("a", 8000)),),
    )
    done = await reloader.reload("SIGHUP")
    assert done.difference == Difference(routes=Names(added=("b",), removed=("a",)))
    assert launcher.config.routes[0].backends == (A,)
    assert not (await reloader.reload("SIGHUP")).difference


async def test_several_at_once_have_their_turns(launcher: Launcher) -> None:
    reading, go_on = threading.Event(), threading.Event()
    files = iter([CONFIG, replace(CONFIG, max_body=2)])

    def load() -> LauncherConfig:
        one = next(files)
        reading.set()
        assert go_on.wait(30)
        return one

    reloader = Reloader(load, launcher)
    first = tasks.spawn(reloader.reload("one"), name="one")
    second = tasks.spawn(reloader.reload("two"), name="two")
    await asyncio.to_thread(reading.wait, 30)
    assert launcher.taken == []
    go_on.set()
    done = await asyncio.gather(first, second)
    assert [one.difference.settings for one in done] == [(), ("max_body",)]
    assert [one.max_body for one in launcher.taken] == [CONFIG.max_body, 2]


def test_sentences() -> None:
    assert summary(Difference()) == ""
    assert summary(
        Difference(
            routes=Names(added=("a", "b"), changed={"c": ("models", "path")}),
            backends=Names(removed=("d",)),
            replaced=("e", "f"),
            settings=("capacity", "keys"),
        )
    ) == (
        "added routes a, b; changed route c (models, path); removed backend d; "
        "replaced backends e, f; changed capacity, keys"
    )


EVERY = 0.02
PATIENCE = 30.0


class Watched:
    """A file, and how often it was seen to have changed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.count = 0
        self._news = asyncio.Event()

    async def watch(self) -> None:
        async with aclosing(changes(lambda: (str(self.file),), EVERY)) as seen:
            async for _ in seen:
                self.count += 1
                self._news.set()

    async def change(self) -> None:
        """Wait for the next one."""
        async with asyncio.timeout(PATIENCE):
            await self._news.wait()
        self._news.clear()


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    file = folder / "routes.toml"
    file.write_text("one")
    one = Watched(file)
    watching = tasks.spawn(one.watch(), name="watch")
    await asyncio.sleep(3 * EVERY)
    try:
        yield one
    finally:
        await tasks.cancel(watching)


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def by_rename(file: Path, text: str) -> None:
    """vim, and most others."""
    new = file.with_name("routes.toml~")
    new.write_text(text)
    new.replace(file)


def by_moving_away(file: Path, text: str) -> None:
    """emacs: the old one becomes the backup."""
    file.replace(file.with_name("routes.toml.bak"))
    file.write_text(text)


@pytest.mark.parametrize("write", [in_place, by_rename, by_moving_away])
async def test_every_way_of_writing_is_noticed(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    async with watched(tmp_path) as one:
        for n in range(3):
            write(one.file, "x" * n)
            await one.change()
        assert one.count == 3


async def test_same_length_and_time_but_another_file(tmp_path: Path) -> None:
    async with watched(tmp_path) as one:
        before = one.file.stat()
        new = tmp_path / "new"
        new.write_text("two")
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.replace(one.file)
        await one.change()


async def test_a_link_that_points_elsewhere(tmp_path: Path) -> None:
    """How Kubernetes changes a secret."""
    async with watched(tmp_path) as one:
        (tmp_path / "other").write_text("two")
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "other")
        link.replace(one.file)
        await one.change()


async def test_gone_and_back(tmp_path: Path) -> None:
    async with watched(tmp_path) as one:
        one.file.unlink()
        await one.change()
        one.file.write_text("back")
        await one.change()


async def test_a_change_is_reported_once_writing_has_ended(tmp_path: Path) -> None:
    async with watched(tmp_path) as one:
        for n in range(100):
            one.file.write_text("x" * n)
            await asyncio.sleep(EVERY / 4)
        await one.change()
        assert one.count < 20, "a busy machine may look between two writes; not each time"


def test_the_file_and_those_with_secrets(tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(
        '[launcher]\napi_keys = ["file:/run/one", "file:${DIR}/two", "file:${NO}/three"]\n'
        "backend_key = 'file:/run/four'\n"
    )
    environ = {"DIR": "/etc/x", "VLLM_API_KEY_FILE": "/run/vllm", "HOME": "/root"}
    assert set(files_of(str(file), environ)) == {
        str(file),
        "/run/vllm",
        "/run/one",
        "/etc/x/two",
        "/run/four",
    }
    assert files_of(None, {}) == ()
    assert files_of(str(tmp_path / "no"), {}) == (str(tmp_path / "no"),)
