"""Following what happens, over a real connection: resumed, and told when that can't be."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.serving import PATIENCE, Launcher, process_route, until

JSON = {"Content-Type": "application/json"}
Message = dict[str, Any]


@contextmanager
def following(launcher: Launcher, last: str = "", query: str = "") -> Iterator[Iterator[Message]]:
    """The messages of /api/events; the first is where the stream begins."""
    request = urllib.request.Request(f"{launcher.base}/api/events{query}")
    if last:
        request.add_header("Last-Event-ID", last)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"

        def messages() -> Iterator[Message]:
            found: Message = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name and value:
                    found[name] = json.loads(value) if name == "data" else value
                elif not name and "id" in found:
                    yield found
                    found = {}

        yield messages()


def until_type(messages: Iterator[Message], kind: str) -> Message:
    """The next one whose event is of that type."""
    return next(one for one in messages if "data" in one and one["data"]["event"]["type"] == kind)


def test_what_happens_is_told_and_resumed_where_it_was_left(tmp_path: Path) -> None:
    routes = process_route("one", lines="needs = {}") + process_route("two", lines="needs = {}")
    with Launcher(tmp_path, routes) as launcher:
        until(lambda: launcher.get("/readyz")[0] == 200, "the first look around")
        with following(launcher) as messages:
            next(messages)
            assert launcher.get("/one/echo")[0] == 200
            arrived = until_type(messages, "arrived")
            kinds = [effect["type"] for effect in arrived["data"]["effects"]]
            assert {"decided", "start"} <= set(kinds)
            started = until_type(messages, "started")
            assert started["data"]["event"]["backend"] == "one"
            assert any(effect["type"] == "admit" for effect in started["data"]["effects"])
        # Warm requests are no events of their own; a stop and another start are.
        assert launcher.get("/one/echo?away")[0] == 200
        assert launcher.request("POST", "/api/routes/one/stop", b"{}", **JSON)[0] == 202
        assert launcher.get("/one/echo")[0] == 200
        with following(launcher, last=started["id"]) as messages:
            begins = next(messages)
            assert (begins["id"], "event" in begins) == (started["id"], False)
            assert until_type(messages, "released")["data"]["event"]["ok"] is True
            stopped = until_type(messages, "stopped")
            assert stopped["data"]["event"]["backend"] == "one"
            assert until_type(messages, "started")["data"]["event"]["backend"] == "one"
        with following(launcher, query="?backend=two") as messages:
            next(messages)
            assert launcher.get("/one/echo")[0] == 200
            assert launcher.get("/two/echo")[0] == 200
            arrived = until_type(messages, "arrived")
            assert arrived["data"]["event"]["ticket"]["backends"] == ["two"]
        launcher.stop()
        launcher.start()
        with following(launcher, last=started["id"]) as messages:
            begins = next(messages)
            assert (begins["event"], begins["data"]) == ("reset", {"reason": "restarted"})
            assert begins["id"] != started["id"]
