"""A request's head as the backend gets it: hop-by-hop, forwarded, Via, credentials; and what a
response tells of its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from launcher.auth.meters import Meters
from launcher.config import Secret
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.http.headers import RawHeaders
from launcher.http.pool import UpstreamPool
from launcher.http.server import ClientConnection, Limits, Request, Shared
from launcher.proxy.body import Budget
from launcher.proxy.exchange import Exchange
from launcher.proxy.fields import PSEUDONYM, field_table
from launcher.proxy.handler import Proxy
from launcher.proxy.own import Own
from launcher.proxy.waiting import WaitingRoom
from launcher.runtime.admission import Grant
from tests.http.recording import Wire
from tests.keyring import api
from tests.proxy.fake_gate import FakeGate
from tests.proxy.house import CODER, NoPaths, a_config, a_route, last_line

THERE = Endpoint("10.0.0.5", 9000)
OURS = (b"X-Forwarded-Prefix", b"/coder")
HOST = (b"Host", b"example.test")


class From(Wire):
    """A client's transport, by its address."""

    def __init__(self, peer: str) -> None:
        super().__init__()
        self.peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self.peer if self.peer == "unix" else (self.peer, 1234)
        return default


Send = Callable[..., RawHeaders]


class Sender:
    """Makes an exchange of the bytes of a head, and its outgoing head of that."""

    def __init__(self, **config: Any) -> None:
        route = config.pop("route", None) or a_route()
        self.config = a_config(route, **config)
        self.gate = FakeGate(THERE)
        self.pool = UpstreamPool()
        nobody = NoPaths()
        self.proxy = Proxy(
            self.config,
            self.gate,
            self.pool,
            Budget(1 << 20),
            Own(nobody, nobody),
            on_done=lambda record: None,
            meters=Meters(),
            waiting=WaitingRoom(last_line),
            fields=field_table(),
            latest=lambda: self.proxy,
        )

    def exchange(
        self,
        *lines: tuple[bytes, bytes],
        target: bytes = b"/coder/x",
        version: bytes = b"1.1",
        host: RawHeaders = (HOST,),
        peer: str = "192.0.2.7",
        endpoint: Endpoint = THERE,
        key: str | None = None,
    ) -> Exchange:
        requests: list[Request] = []
        shared = Shared(requests.append, Limits(), field_table())
        connection = ClientConnection(shared)
        connection.connection_made(From(peer))
        first = b"POST %b HTTP/%b" % (target, version)
        head = [first, *map(b": ".join, (*host, *lines)), b"", b""]
        connection.data_received(b"\r\n".join(head))
        (request,) = requests
        exchange = Exchange(self.proxy, request)
        path = self.proxy.router.of_path(request.line.path)
        assert path is not None
        assert path.destination is not None
        exchange.target = path
        exchange.destination = path.destination
        secret = None if key is None else Secret(key)
        exchange.settle(Grant(CODER, 1, endpoint, False, 0.0, 0.0, key=secret))
        return exchange

    def head(self, *lines: tuple[bytes, bytes], length: int | None = 0, **how: Any) -> bytes:
        return b"\r\n".join(self.exchange(*lines, **how).outgoing_head(length))

    def sent(self, *lines: tuple[bytes, bytes], **how: Any) -> RawHeaders:
        _, *found = self.head(*lines, **how).removesuffix(b"\r\n\r\n").split(b"\r\n")
        return tuple((name, value) for name, _, value in (one.partition(b": ") for one in found))


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Sender]]:
    made: list[Sender] = []

    def make(**config: Any) -> Sender:
        made.append(Sender(**config))
        return made[-1]

    yield make
    for one in made:
        await one.pool.close()
    await asyncio.sleep(0)


@pytest.fixture
async def sent(make: Callable[..., Sender]) -> Send:
    return make().sent


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name.lower()]


async def test_nothing_is_added_but_forwarding_headers(sent: Send) -> None:
    assert sent((b"accept", b"*/*")) == (
        HOST,
        (b"accept", b"*/*"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"example.test"),
        OURS,
        (b"Via", b"1.1 " + PSEUDONYM),
    )


async def test_order_case_duplicates_and_odd_bytes_are_kept(sent: Send) -> None:
    odd = ((b"X-b", b"\xff\xfe"), (b"x-A", b"1"), (b"X-B", b""), (b"x-A", b"a\tb"))
    assert sent(*odd)[1:5] == odd
    # And where its lines have to be looked at one by one.
    assert sent((b"Connection", b"X-C"), *odd)[1:5] == odd


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"/coder", b"POST / HTTP/1.1"),
        (b"/coder/%41//a/../%zz?", b"POST /%41//a/../%zz? HTTP/1.1"),
        (b"/coder/x?y=%20?z", b"POST /x?y=%20?z HTTP/1.1"),
        (b"http://example.test/coder/x", b"POST /x HTTP/1.1"),
    ],
)
async def test_the_target_is_the_rest_behind_the_prefix(
    make: Callable[..., Sender], target: bytes, line: bytes
) -> None:
    assert make().head(target=target).split(b"\r\n")[0] == line
    based = make().head(target=target, endpoint=Endpoint("10.0.0.5", 9000, base_path="/b"))
    assert based.split(b"\r\n")[0] == line.replace(b"POST ", b"POST /b")


@pytest.mark.parametrize(
    "name",
    b"Connection Keep-Alive TE Trailer Upgrade Expect HTTP2-Settings "
    b"Proxy-Authorization Proxy-Connection Proxy-Anything".split(),
)
async def test_hop_by_hop_headers_and_expect_stay(sent: Send, name: bytes) -> None:
    headers = sent((name, b"x"), (name.upper(), b"y"), (b"X-Other", b"z"))
    assert values(headers, name) == []
    assert values(headers, b"x-other") == [b"z"]


@pytest.mark.parametrize(
    "name",
    b"Content_Length Transfer_Encoding transfer_Encoding Keep_Alive Proxy_Connection "
    b"HTTP2_Settings X_Forwarded_For  X-Forwarded_Host".split(),
)
async def test_what_is_taken_out_does_not_pass_in_the_spelling_of_cgi(
    sent: Send, name: bytes
) -> None:
    headers = sent((name, b"chunked"), (b"X_Other", b"z"))
    assert values(headers, name) == []
    assert values(headers, b"x_other") == [b"z"]
    assert values(headers, b"x-forwarded-for") == [b"192.0.2.7"]


async def test_what_connection_names_stays_but_not_ours(sent: Send) -> None:
    headers = sent(
        (b"Connection", b"close, X-Secret , x-forwarded-for"),
        (b"connection", b"Host, Via,Content-Length"),
        (b"X-SECRET", b"1"),
        (b"X-Kept", b"2"),
        (b"Via", b"1.0 fred"),
        (b"Content-Length", b"5"),
        length=5,
    )
    assert values(headers, b"x-secret") == []
    assert values(headers, b"x-kept") == [b"2"]
    assert values(headers, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(headers, b"host") == [b"example.test"]
    assert values(headers, b"content-length") == [b"5"]
    assert values(headers, b"via") == [b"1.1 " + PSEUDONYM]


CREDENTIALS = (
    (b"AUTHORIZATION", b"Bearer mine"),
    (b"X-Api-Key", b"mine"),
    (b"Api-Key", b"mine"),
)


async def test_credentials_are_dropped_and_the_key_is_set_last(make: Callable[..., Sender]) -> None:
    headers = make(key="backend").sent(*CREDENTIALS, key="backend")
    assert headers[-1] == (b"Authorization", b"Bearer backend")
    assert b"mine" not in b" ".join(value for _, value in headers)


async def test_credentials_are_dropped_where_the_launcher_asks_for_some(
    make: Callable[..., Sender],
) -> None:
    headers = make(keys=api("mine")).sent(*CREDENTIALS)
    assert b"mine" not in b" ".join(value for _, value in headers)


async def test_no_credential_passes_in_the_spelling_of_cgi(make: Callable[..., Sender]) -> None:
    headers = make().sent((b"X_Api_Key", b"mine"), (b"api_key", b"mine"), key="theirs")
    assert values(headers, b"x_api_key") == values(headers, b"api_key") == []
    assert values(headers, b"authorization") == [b"Bearer theirs"]


async def test_others_credentials_travel_where_nobody_here_asks_for_any(
    make: Callable[..., Sender],
) -> None:
    assert make().sent(*CREDENTIALS)[1:4] == CREDENTIALS


async def test_the_launchers_own_key_goes_nowhere_although_credentials_are_passed_through(
    make: Callable[..., Sender],
) -> None:
    sender = make(keys=api("mine"), route=a_route(auth="passthrough"))
    headers = sender.sent((b"Authorization", b"Bearer mine"), (b"X-Api-Key", b"the backend's"))
    assert values(headers, b"authorization") == []
    assert values(headers, b"x-api-key") == [b"the backend's"]


@pytest.mark.parametrize(
    ("length", "lines", "framing"),
    [
        (0, [], {}),
        (0, [(b"Content-Length", b"0")], {b"content-length": b"0"}),
        (7, [(b"Content-Length", b"9")], {b"content-length": b"7"}),
        (7, [(b"Transfer-Encoding", b"chunked")], {b"content-length": b"7"}),
        (None, [(b"Transfer-Encoding", b"chunked")], {b"transfer-encoding": b"chunked"}),
    ],
)
async def test_the_body_is_framed_once(
    sent: Send, length: int | None, lines: list[tuple[bytes, bytes]], framing: dict[bytes, bytes]
) -> None:
    found = [
        (name.lower(), value)
        for name, value in sent(*lines, length=length)
        if name.lower() in (b"content-length", b"transfer-encoding")
    ]
    assert found == list(framing.items())


async def test_host_is_the_clients_or_the_backends(make: Callable[..., Sender]) -> None:
    assert make().sent()[0] == HOST
    assert make().sent(target=b"http://other:1/coder/x")[0] == (b"Host", b"other:1")
    backends = make(route=a_route(host_header="backend"))
    assert backends.sent()[0] == (b"Host", b"10.0.0.5:9000")
    assert values(backends.sent(), b"x-forwarded-host") == [b"example.test"]
    assert backends.sent(endpoint=Endpoint(unix_path="/s"))[0] == (b"Host", b"localhost")
    old = make().sent(host=(), version=b"1.0")
    assert old[0] == (b"Host", b"10.0.0.5:9000")
    assert values(old, b"x-forwarded-host") == []
    assert values(old, b"via") == [b"1.0 " + PSEUDONYM]


CLAIMS = (
    (b"X-Forwarded-For", b"198.51.100.1"),
    (b"x-forwarded-for", b"198.51.100.2"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"ai.example"),
    (b"X-Forwarded-Prefix", b"/ai/"),
)


async def test_a_strangers_claims_are_replaced(make: Callable[..., Sender]) -> None:
    for trusted in ((), ("203.0.113.0/24",)):
        headers = make(trusted_proxies=trusted).sent(*CLAIMS)
        assert values(headers, b"x-forwarded-for") == [b"192.0.2.7"]
        assert values(headers, b"x-forwarded-proto") == [b"http"]
        assert values(headers, b"x-forwarded-host") == [b"example.test"]
        assert values(headers, b"x-forwarded-prefix") == [b"/coder"]


async def test_a_trusted_proxys_claims_are_kept_and_we_are_appended(
    make: Callable[..., Sender],
) -> None:
    sender = make(trusted_proxies=("192.0.2.0/24",))
    headers = sender.sent(*CLAIMS)
    assert values(headers, b"x-forwarded-for") == [b"198.51.100.1, 198.51.100.2, 192.0.2.7"]
    assert values(headers, b"x-forwarded-proto") == [b"https"]
    assert values(headers, b"x-forwarded-host") == [b"ai.example"]
    assert values(headers, b"x-forwarded-prefix") == [b"/ai/coder"]
    silent = sender.sent()
    assert values(silent, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(silent, b"x-forwarded-host") == [b"example.test"]
    # What Connection names isn't said to us either.
    unsaid = sender.sent((b"Connection", b"X-Forwarded-For"), *CLAIMS)
    assert values(unsaid, b"x-forwarded-for") == [b"192.0.2.7"]


async def test_a_unix_socket_has_no_address(make: Callable[..., Sender]) -> None:
    sender = make(trusted_proxies=("0.0.0.0/0",))
    for lines in ((), CLAIMS):
        headers = sender.sent(*lines, peer="unix")
        assert values(headers, b"x-forwarded-for") == []
        assert values(headers, b"x-forwarded-proto") == [b"http"]


async def test_via_grows_and_a_second_return_is_a_loop(sent: Send) -> None:
    other = (b"Via", b"1.1 lazy-launcher-0badcafe, 1.1 lazy-launcher-0badcafe")
    once = (b"via", b"1.0 fred, 1.1 " + PSEUDONYM + b" (again)")
    assert values(sent(other, once), b"via") == [other[1], once[1], b"1.1 " + PSEUDONYM]
    for lines in ((once, once), ((b"Via", once[1] + b",1.1 " + PSEUDONYM),)):
        with pytest.raises(LauncherError) as caught:
            sent(*lines)
        assert (caught.value.status, caught.value.code) == (508, "loop_detected")


async def test_hiding_via_behind_connection_hides_no_loop(sent: Send) -> None:
    mine = (b"Via", b"1.1 " + PSEUDONYM)
    with pytest.raises(LauncherError):
        sent((b"Connection", b"Via"), mine, mine)


async def test_an_upgrade_is_written_anew(sent: Send) -> None:
    headers = sent(
        (b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"h2c"), (b"upgrade", b"websocket")
    )
    assert values(headers, b"connection") == [b"Upgrade"]
    assert values(headers, b"upgrade") == [b"websocket"]


async def test_what_is_meant_for_the_launcher_stays_here(sent: Send) -> None:
    headers = sent((b"X-Launcher-Priority", b"low"), (b"x-launcher-wake", b"no"))
    assert [name for name, _ in headers if name.lower().startswith(b"x-launcher")] == []


# -- what a response tells of its way --------------------------------------------------------


async def test_milliseconds_with_the_start_counted_once(make: Callable[..., Sender]) -> None:
    exchange = make().exchange()
    exchange.cold, exchange.queued, exchange.starting = True, 2.5, 1.5
    assert exchange.timing(0.0123) == [
        b"Server-Timing: queue;dur=1000.0, start;dur=1500.0, upstream;dur=12.3",
        b"X-Launcher-Cold-Start: 1",
    ]


async def test_a_warm_response_is_not_called_cold(make: Callable[..., Sender]) -> None:
    exchange = make().exchange()
    assert exchange.timing(-1.0) == [b"Server-Timing: queue;dur=0.0, start;dur=0.0"]
    assert exchange.timing(0.0004) == [
        b"Server-Timing: queue;dur=0.0, start;dur=0.0, upstream;dur=0.4"
    ]
    exchange.queued = 0.25
    assert exchange.timing(-1.0) == [b"Server-Timing: queue;dur=250.0, start;dur=0.0"]
