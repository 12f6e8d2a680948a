"""`launcher reload`."""

from __future__ import annotations

import json

from launcher.cli.reload import changes
from tests.cli.running import run
from tests.cli.saying import Saying, error

NOTHING = {
    "changed": False,
    "routes": {"added": [], "removed": [], "changed": {}},
    "backends": {"added": [], "removed": [], "changed": {}, "replaced": []},
    "settings": [],
    "needs_restart": [],
    "warnings": [],
    "duration_ms": 12,
}
MUCH = NOTHING | {
    "changed": True,
    "routes": {"added": ["new"], "removed": ["old"], "changed": {"chat": ["models", "auth"]}},
    "backends": {"added": [], "removed": [], "changed": {}, "replaced": ["chat"]},
    "settings": ["idle_timeout"],
    "needs_restart": ["listen"],
}


def test_what_has_changed() -> None:
    assert changes(dict(MUCH)) == [
        "routes added: new",
        "routes changed: chat (models, auth)",
        "routes removed: old",
        "backends replaced: chat",
        "settings changed: idle_timeout",
        "needs a restart: listen",
    ]


def test_nothing_has_changed(launcher: Saying) -> None:
    launcher.says("POST /api/reload", NOTHING | {"warnings": ["no such container\x1b: chat"]})

    done = run("reload", "--url", launcher.url)
    raw = run("reload", "--json", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "nothing has changed\n")
    assert done.stderr == "warning: no such container\\x1b: chat\n"
    assert json.loads(raw.stdout)["duration_ms"] == 12


def test_a_configuration_with_problems(launcher: Saying) -> None:
    status, body = error(400, "bad_configuration", "The configuration has 1 problem.")
    body["error"]["detail"] = "routes.toml: chat: no port"
    launcher.says("POST /api/reload", (status, body))

    done = run("reload", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The configuration has 1 problem.\n    routes.toml: chat: no port\n"
