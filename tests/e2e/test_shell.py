"""Everything that operators do, from the shell: switches, leases, modes, drains, logs, reload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.e2e.commands import run
from tests.e2e.serving import Launcher, process_route, until

MODES = """
[modes.write]
routes = ["chat"]
ttl = "20m"

[modes.code]
routes = ["coder"]
"""
ROUTES = process_route("coder") + process_route("chat") + MODES
BROKEN = process_route("broken", EXIT_CODE="3")


@pytest.mark.slow
def test_switching(tmp_path: Path) -> None:
    with Launcher(tmp_path, ROUTES + BROKEN) as launcher:
        chat = run("switch", "chat", url=launcher.base)
        assert (chat.returncode, chat.stdout) == (0, "the switch to chat succeeded\n")
        assert "start chat: done" in chat.stderr

        broken = run("switch", "broken", url=launcher.base)
        assert broken.returncode == 3, (broken.stdout, broken.stderr)
        assert "chat is back" in broken.stdout
        assert "restore chat: done" in broken.stderr
        assert launcher.state("chat") == "ready"

        coder = run("switch", "coder", "--model", "--no-wait", "--json", url=launcher.base)
        id = json.loads(coder.stdout)["switch_id"]
        until(lambda: launcher.json(f"/api/switches/{id}")["state"] == "succeeded")
        assert run("switch", "nobody", url=launcher.base).returncode == 1


@pytest.mark.slow
def test_leases_and_modes(tmp_path: Path) -> None:
    with Launcher(tmp_path, ROUTES) as launcher:
        taken = run("lease", "take", "chat", "--ttl", "5m", "--note", "x", url=launcher.base)
        assert taken.returncode == 0, taken.stderr
        id = taken.stdout.strip()
        assert launcher.state("chat") == "ready"

        held = run("switch", "coder", url=launcher.base)
        assert held.returncode == 1
        assert f"Lease {id} (chat" in held.stderr

        assert "for 60 min" in run("lease", "renew", id, "--ttl", "1h", url=launcher.base).stdout
        assert id in run("lease", "list", url=launcher.base).stdout.split()
        assert run("lease", "release", id, url=launcher.base).returncode == 0
        stale = run("lease", "renew", id, url=launcher.base)
        assert (stale.returncode, "has ended" in stale.stderr) == (1, True)

        reserved = run("lease", "take", "--needs", "gpu=1", "--pin", url=launcher.base)
        assert reserved.returncode == 0, reserved.stderr
        assert launcher.state("chat") == "stopped"
        assert run("lease", "release", reserved.stdout.strip(), url=launcher.base).returncode == 0

        changed = run("mode", "code", "--ttl", "10m", url=launcher.base)
        assert changed.returncode == 0, changed.stderr
        assert changed.stdout.startswith("mode code, for another 10 min\n")
        assert launcher.state("coder") == "ready"
        assert run("mode", "--leave", url=launcher.base).stdout.startswith("no mode\n")


@pytest.mark.slow
def test_drains_logs_and_reloads(tmp_path: Path) -> None:
    with Launcher(tmp_path, process_route("chat", LOG_HEALTHY="1")) as launcher:
        assert run("drain", "chat", url=launcher.base).returncode == 0
        status, _ = launcher.get("/chat/v1/models")
        assert status == 503
        assert run("resume", url=launcher.base).returncode == 0
        assert launcher.get("/chat/v1/models")[0] == 200

        printed = run("logs", "chat", url=launcher.base)
        assert (printed.returncode, "healthy at" in printed.stdout) == (0, True)

        launcher.file.write_text(launcher.file.read_text() + process_route("more"))
        reloaded = run("reload", url=launcher.base)
        assert (reloaded.returncode, reloaded.stderr) == (0, "")
        assert reloaded.stdout.splitlines() == ["routes added: more", "backends added: more"]
        launcher.file.write_text("[routes.chat]\n")
        refused = run("reload", url=launcher.base)
        assert refused.returncode == 1
        assert "nothing was changed" in refused.stderr
        assert launcher.get("/more/v1/models")[0] == 200


@pytest.mark.slow
def test_watching(tmp_path: Path) -> None:
    with Launcher(tmp_path, ROUTES) as launcher:
        with Terminal("top", "--url", launcher.base) as terminal:
            seen = terminal.shows("q quits")
            assert run("switch", "chat", url=launcher.base).returncode == 0
            terminal.shows("ready", seen)
            terminal.press(b"q")
            assert (terminal.left(), terminal.restored) == (0, True)
