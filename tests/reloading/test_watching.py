"""Files that change, however they are written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from launcher import tasks
from launcher.reloading.watching import changes, files_of

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


async def test_whoever_is_still_writing_is_waited_for(tmp_path: Path) -> None:
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
