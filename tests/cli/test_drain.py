"""`launcher drain` and `launcher resume`."""

from __future__ import annotations

from tests.cli.running import run
from tests.cli.saying import Saying, error


def test_a_route_and_everything(launcher: Saying) -> None:
    launcher.says("POST /api/drain", {})
    launcher.says("POST /api/resume", {})

    told = [
        run(*words, "--url", launcher.url).stdout
        for words in (("drain", "chat"), ("drain",), ("resume", "chat"), ("resume",))
    ]

    assert told == [
        "chat is drained: new requests are refused\n",
        "everything is drained: new requests are refused\n",
        "chat takes requests again\n",
        "everything takes requests again\n",
    ]
    assert [body for _, body in launcher.asked] == [{"route": "chat"}, {"route": None}] * 2


def test_who_is_not_there(launcher: Saying) -> None:
    launcher.says("POST /api/drain", error(404, "unknown_route", "No route of that name."))

    done = run("drain", "caht", "--url", launcher.url)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "No route of that name.\n")
