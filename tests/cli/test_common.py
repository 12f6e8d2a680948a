"""How a client command waits, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from launcher.cli import common
from launcher.cli.common import connect, explained, load, wait_for
from launcher.client.launcher import LauncherClient
from launcher.client.reports import StatusReport
from launcher.client.transport import Call, ClientError
from tests.api.serving import served
from tests.api.world import FakeControl, a_context
from tests.cli.running import BAD, GOOD


def ended(caught: pytest.ExceptionInfo[typer.Exit]) -> int:
    return caught.value.exit_code


@pytest.mark.parametrize(
    ("given", "admin", "api", "sent"),
    [
        ("one", "two", "three", "Bearer one"),
        (None, "two", "three", "Bearer two"),
        (None, "", "three", "Bearer three"),
        (None, "", "", None),
    ],
)
def test_the_nearest_key_is_used(
    given: str | None, admin: str, api: str, sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_ADMIN_KEY", admin)
    monkeypatch.setenv("LAUNCHER_API_KEY", api)

    assert connect("http://x", given).transport.headers().get("Authorization") == sent


def test_what_is_no_url_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        connect("ftp://x", None)

    assert ended(caught) == 2
    assert "is not a URL" in capsys.readouterr().err


def test_an_error_becomes_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, explained():
        raise ClientError("it\x1b failed", detail="a\nb")

    assert ended(caught) == 1
    assert capsys.readouterr().err == "it\\x1b failed\n    a\n    b\n"


def test_what_is_not_the_clients_error_is_none_of_its_business() -> None:
    with pytest.raises(ZeroDivisionError), explained():
        raise ZeroDivisionError


def test_a_failed_status_call_does_not_end_the_wait(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "POLL_INTERVAL", 0.01)
    control, looks = FakeControl(), 0

    def words(report: StatusReport) -> str:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ClientError("not now")
        if looks == 3:
            (admission,) = control.admissions
            admission.loop.call_soon_threadsafe(admission.settle)
        return f"starting coder, {looks} s"

    with served(lambda: a_context(control)) as url:
        client = LauncherClient(url)
        wait_for(client, client.start("coder"), words)

    assert looks >= 3
    assert capsys.readouterr().err == "starting coder\n"


def test_an_interruption_hangs_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "POLL_INTERVAL", 0.01)
    control, calls = FakeControl(), list[Call]()

    def words(report: StatusReport) -> str:
        raise KeyboardInterrupt

    with served(lambda: a_context(control)) as url:
        client = LauncherClient(url)
        calls.append(client.start("coder"))
        with pytest.raises(typer.Exit) as caught:
            wait_for(client, calls[0], words)
        assert calls[0].wait(30)

    assert ended(caught) == 130
    assert "interrupted" in capsys.readouterr().err


def test_what_is_right_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "routes.toml").write_text(GOOD)

    assert [route.name for route in load(tmp_path / "routes.toml").routes] == ["tiny"]


def test_all_that_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "routes.toml").write_text(BAD)

    with pytest.raises(typer.Exit) as caught:
        load(tmp_path / "routes.toml")

    assert caught.value.exit_code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"{len(lines) - 1} problems"
    assert len(lines) > 2
