"""What a page from elsewhere can't have done, and what programs and pages of our own can."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.auth.browsers import (
    OWN_HEADERS,
    PAGE_HEADERS,
    Guard,
    host_name,
    names_of,
    only_pointed_at,
    same_origin,
)
from launcher.auth.head import Head
from launcher.config import LauncherConfig, Listen
from launcher.errors import LauncherError
from tests.auth.heads import Request, a_route

HERE = b"gpu.lan:8000"
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}


def head(
    method: str = "GET", host: bytes = HERE, upgrade: bytes | None = None, **headers: str
) -> Head:
    sent = tuple(
        (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
    )
    return Request(method, host=host, headers=((b"Host", host), *sent), upgrade=upgrade)


def own(guard: Guard, head: Head) -> str | None:
    try:
        guard.own(head)
    except LauncherError as error:
        return error.code
    return None


def route(guard: Guard, head: Head, *, public: bool = False) -> str | None:
    try:
        guard.route(head, public=public)
    except LauncherError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"gpu.lan:8000", "gpu.lan"),
        (b"GPU.Lan.", "gpu.lan"),
        (b"[::1]:80", "[::1]"),
        (b"[::1]", "[::1]"),
        (b"", ""),
    ],
)
def test_host_name(host: bytes, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({}, True),
        ({"Sec_Fetch_Site": "same-origin"}, True),
        ({"Sec_Fetch_Site": "none"}, True),
        ({"Sec_Fetch_Site": "same-site"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({"Sec_Fetch_Site": "anything"}, False),
        ({"Origin": "http://gpu.lan:8000"}, True),
        ({"Origin": "https://GPU.lan:8000"}, True),
        ({"Origin": "http://gpu.lan"}, False),
        ({"Origin": "http://gpu.lan:8000.evil.example"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        # The browser's own word goes before a Host that a proxy has changed, and before none.
        ({"Origin": "https://gpu.example.org", "Sec_Fetch_Site": "same-origin"}, True),
        ({"Origin": "http://gpu.lan:8000", "Sec_Fetch_Site": "cross-site"}, False),
    ],
)
def test_same_origin(headers: dict[str, str], same: bool) -> None:
    assert same_origin(head(**headers)) is same


LOCAL = [
    "127.0.0.1", "127.0.0.1:8000", "192.168.1.20:8000", "[::1]:8000", "[fe80::1]", "localhost:8000",
    "launcher:8000", "gpubox", "gpu.lan", "gpu.local", "gpu.home.arpa", "x.internal", "a.localhost",
    "GPU.LAN.",
]  # fmt: skip
STRANGE = [
    "evil.example:8000", "evil.example.", "127.0.0.1.evil.example", "lan.evil.example",
    "gpu.lan.evil.example", "xlocal.example", "1.2.3", "1.2.3.4.5", "local.co",
]  # fmt: skip


class TestHosts:
    @pytest.mark.parametrize("host", [*LOCAL, "gpu.example.org:8000", "a.b.example.net", ""])
    def test_ours(self, host: str) -> None:
        guard = Guard(("*.example.net",), ["gpu.example.org"])
        for method in ("GET", "POST"):
            assert own(guard, head(method, host.encode())) is None
            assert route(guard, head(method, host.encode())) is None

    @pytest.mark.parametrize("host", [*STRANGE, "example.net", "xexample.net", "www.gpu.lan.org"])
    def test_not_ours(self, host: str) -> None:
        guard = Guard(("*.example.net",), ["gpu.example.org"])
        for method in ("GET", "HEAD", "POST"):
            assert own(guard, head(method, host.encode())) == "wrong_host"
            assert route(guard, head(method, host.encode())) == "wrong_host"
            assert route(guard, head(method, host.encode()), public=True) == "wrong_host"

    def test_any(self) -> None:
        assert own(Guard(("*",)), head(host=b"evil.example")) is None

    def test_the_machines_own_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.gethostname", lambda: "Box.Example.org")
        config = LauncherConfig(
            routes=(a_route(hosts=("comfy.example.org",)),),
            listen=(Listen("0.0.0.0", 80), Listen(unix_path="/x")),
            admin_listen=(Listen("ops.example.org", 81),),
        )
        guard = Guard(None, names_of(config))
        for host in (b"box.example.org", b"comfy.example.org", b"ops.example.org:81"):
            assert own(guard, head(host=host)) is None
        assert own(guard, head(host=b"other.example.org")) == "wrong_host"

    def test_the_message_says_what_to_do(self) -> None:
        with pytest.raises(LauncherError, match=r"'evil\.example'.*allowed_hosts"):
            Guard(None).own(head(host=b"evil.example"))


class TestRoutesWhereNothingIsSaid:
    """A program may call the machine whatever it likes: a name that nobody listed costs the
    users of a browser a line in routes.toml, and nobody else."""

    PROGRAMS: tuple[dict[str, str], ...] = (
        {},
        {"User-Agent": "curl/8.9"},
        {"User-Agent": "OpenAI/Python 1.40"},
        {"User-Agent": "node", "Accept-Language": "*", "Sec-Fetch-Mode": "cors"},
    )
    BROWSERS: tuple[dict[str, str], ...] = (
        FIREFOX,
        {"User-Agent": "curl/8.9", "Accept-Language": "en"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
    )

    @pytest.mark.parametrize("sent", PROGRAMS)
    def test_programs_come_in(self, sent: dict[str, str]) -> None:
        for method in ("GET", "POST"):
            assert route(Guard(None), head(method, b"gpu.example.org", **sent)) is None

    @pytest.mark.parametrize("sent", BROWSERS)
    def test_browsers_only_by_a_known_name(self, sent: dict[str, str]) -> None:
        # As a rebound page has it: its own name, and so its own origin.
        rebound = head("GET", b"evil.example", **sent)
        assert route(Guard(None), rebound) == "wrong_host"
        assert route(Guard(None), rebound, public=True) is None
        assert route(Guard(("evil.example",)), rebound) is None


def mutations(**headers: str) -> list[Head]:
    changes = [head(method, **headers) for method in ("POST", "PUT", "DELETE", "PATCH", "MKCOL")]
    return [*changes, head("GET", upgrade=b"websocket", **headers)]


class TestOrigins:
    ELSEWHERE: tuple[dict[str, str], ...] = (
        {"Origin": "http://evil.example"},
        {"Origin": "https://gpu.lan"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://evil.lan"},
    )
    APPS: tuple[dict[str, str], ...] = (
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:5173"},
        {"Origin": "http://[::1]:5173"},
        {"Origin": "http://app.localhost"},
        {"Origin": "vscode-webview://abc", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "file://"},
    )

    @pytest.mark.parametrize("sent", ELSEWHERE)
    def test_a_page_from_elsewhere_changes_nothing(self, sent: dict[str, str]) -> None:
        for one in mutations(**sent):
            assert own(Guard(None), one) == "cross_origin"
            assert route(Guard(None), one) == "cross_origin"
            assert route(Guard(None), one, public=True) is None

    @pytest.mark.parametrize("sent", ELSEWHERE)
    def test_it_may_link_here(self, sent: dict[str, str]) -> None:
        for method in ("GET", "HEAD", "OPTIONS"):
            assert own(Guard(None), head(method, **sent)) is None
            assert route(Guard(None), head(method, **sent)) is None

    @pytest.mark.parametrize("sent", APPS)
    def test_apps_of_the_users_own_machine_may_use_routes_and_nothing_else(
        self, sent: dict[str, str]
    ) -> None:
        for one in mutations(**sent):
            assert route(Guard(None), one) is None
            assert own(Guard(None), one) == "cross_origin"

    @pytest.mark.parametrize("sent", [{}, {"Origin": "http://gpu.lan:8000"}, FIREFOX])
    def test_programs_and_our_own_pages_may(self, sent: dict[str, str]) -> None:
        for one in mutations(**sent):
            assert own(Guard(None), one) is None
            assert route(Guard(None), one) is None


PREFLIGHT = {"Access-Control-Request-Method": "POST"}


@pytest.mark.parametrize(
    ("method", "sent", "only"),
    [
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True),
        ("HEAD", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True),
        (
            "GET",
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "cors",
                "Origin": "https://evil.example",
            },
            True,
        ),
        (
            "GET",
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "iframe",
            },
            True,
        ),
        (
            "GET",
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            False,
        ),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:3000"}, False),
        ("GET", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"}, False),
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, False),
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Purpose": "prefetch;prerender"}, True),
        ("GET", {"Purpose": "prefetch"}, True),
        ("GET", {}, False),
        ("OPTIONS", {"Origin": "https://evil.example", **PREFLIGHT}, True),
        ("OPTIONS", {"Origin": "http://localhost:3000", **PREFLIGHT}, False),
        ("OPTIONS", {"Origin": "https://evil.example"}, False),
    ],
)
def test_what_only_points_here_is_told_from_what_goes_here(
    method: str, sent: dict[str, str], only: bool
) -> None:
    assert only_pointed_at(head(method, **sent)) is only


class TestForms:
    @pytest.mark.parametrize(
        "kind",
        [
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain",
            "Text/Plain;charset=UTF-8",
        ],
    )
    def test_what_a_form_posts_is_refused_even_from_here(self, kind: str) -> None:
        sent: dict[str, Any] = {"Content-Type": kind}
        for method in ("POST", "PUT", "DELETE"):
            assert own(Guard(None), head(method, **sent)) == "unsupported_media_type"
            assert route(Guard(None), head(method, **sent)) is None
        assert own(Guard(None), head("GET", **sent)) is None

    def test_json_and_nothing_are_taken(self) -> None:
        assert own(Guard(None), head("POST")) is None
        assert own(Guard(None), head("POST", **{"Content-Type": "application/json"})) is None


def test_what_own_answers_tell_a_browser() -> None:
    for headers in (OWN_HEADERS, PAGE_HEADERS):
        told = {name.decode().lower(): value.decode() for name, value in headers}
        assert "default-src 'none'" in told["content-security-policy"]
        assert "frame-ancestors 'none'" in told["content-security-policy"]
        assert "unsafe" not in told["content-security-policy"]
        assert told["x-content-type-options"] == "nosniff"
        assert not [name for name in told if name.startswith("access-control-")]
    assert b"script-src" not in dict(OWN_HEADERS)[b"Content-Security-Policy"]
