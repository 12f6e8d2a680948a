"""Headers on their way: hop-by-hop, forwarded, Via, control characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.http.exchange import RawHeaders, RequestHead
from launcher.proxy.headers import PSEUDONYM, request_headers, response_headers, wanted_upgrade
from launcher.proxy.plan import Plan
from tests.proxy.fake_exchange import a_plan, request

THERE = Endpoint("10.0.0.5", 9000)


def sent(
    *lines: tuple[bytes, bytes],
    plan: Plan | None = None,
    length: int | None = 0,
    upgrade: bytes | None = None,
    head: RequestHead | None = None,
) -> RawHeaders:
    head = head or request(headers=((b"Host", b"example.test"), *lines))
    return request_headers(head, plan or a_plan(THERE), length=length, upgrade=upgrade)


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name.lower()]


def test_nothing_is_added_but_forwarding_headers() -> None:
    assert sent((b"accept", b"*/*")) == (
        (b"Host", b"example.test"),
        (b"accept", b"*/*"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"example.test"),
        (b"Via", b"1.1 " + PSEUDONYM),
    )


def test_order_case_duplicates_and_odd_bytes_are_kept() -> None:
    odd = ((b"X-b", b"\xff\xfe"), (b"x-A", b"1"), (b"X-B", b""), (b"x-A", b"a\tb"))
    assert sent(*odd)[1:5] == odd


@pytest.mark.parametrize(
    "name",
    b"Connection Keep-Alive TE Trailer Transfer-Encoding Upgrade Expect HTTP2-Settings "
    b"Proxy-Authorization Proxy-Connection Proxy-Anything".split(),
)
def test_hop_by_hop_headers_and_expect_stay(name: bytes) -> None:
    assert values(sent((name, b"x"), (name.upper(), b"y")), name) == []


def test_what_connection_names_stays_but_not_ours() -> None:
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


def test_credentials_are_dropped_and_the_key_is_set_last() -> None:
    plan = a_plan(
        THERE,
        drop_headers=frozenset({b"authorization", b"x-api-key"}),
        set_headers=((b"Authorization", b"Bearer backend"),),
    )
    headers = sent((b"AUTHORIZATION", b"Bearer mine"), (b"X-Api-Key", b"mine"), plan=plan)
    assert headers[-1] == (b"Authorization", b"Bearer backend")
    assert b"mine" not in b" ".join(value for _, value in headers)


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
def test_the_body_is_framed_once(
    length: int | None, lines: list[tuple[bytes, bytes]], framing: dict[bytes, bytes]
) -> None:
    headers = sent(*lines, length=length)
    found = [
        (name.lower(), value)
        for name, value in headers
        if name.lower() in (b"content-length", b"transfer-encoding")
    ]
    assert found == list(framing.items())


def test_host_is_the_clients_or_the_backends() -> None:
    assert sent()[0] == (b"Host", b"example.test")
    assert sent(plan=a_plan(THERE, host_backend=True))[0] == (b"Host", b"10.0.0.5:9000")
    old = request(version=(1, 0), headers=(), host=b"")
    assert sent(head=old)[0] == (b"Host", b"10.0.0.5:9000")
    assert values(sent(head=old), b"x-forwarded-host") == []
    assert values(sent(head=old), b"via") == [b"1.0 " + PSEUDONYM]


CLAIMS = (
    (b"X-Forwarded-For", b"198.51.100.1"),
    (b"x-forwarded-for", b"198.51.100.2"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"ai.example"),
    (b"X-Forwarded-Prefix", b"/ai/"),
)


def test_a_strangers_claims_are_replaced() -> None:
    headers = sent(*CLAIMS, plan=a_plan(THERE, prefix=b"/coder"))
    assert values(headers, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(headers, b"x-forwarded-proto") == [b"http"]
    assert values(headers, b"x-forwarded-host") == [b"example.test"]
    assert values(headers, b"x-forwarded-prefix") == [b"/coder"]


def test_a_trusted_proxys_claims_are_kept_and_we_are_appended() -> None:
    headers = sent(*CLAIMS, plan=a_plan(THERE, prefix=b"/coder", trusted_peer=True))
    assert values(headers, b"x-forwarded-for") == [b"198.51.100.1, 198.51.100.2, 192.0.2.7"]
    assert values(headers, b"x-forwarded-proto") == [b"https"]
    assert values(headers, b"x-forwarded-host") == [b"ai.example"]
    assert values(headers, b"x-forwarded-prefix") == [b"/ai/coder"]


def test_a_unix_socket_has_no_address() -> None:
    assert values(sent(head=request(peer="unix")), b"x-forwarded-for") == []


def test_via_grows_and_a_second_return_is_a_loop() -> None:
    other = (b"Via", b"1.1 lazy-launcher-0badcafe, 1.1 lazy-launcher-0badcafe")
    once = (b"via", b"1.0 fred, 1.1 " + PSEUDONYM + b" (again)")
    assert values(sent(other, once), b"via") == [other[1], once[1], b"1.1 " + PSEUDONYM]
    for lines in ((once, once), ((b"Via", once[1] + b",1.1 " + PSEUDONYM),)):
        with pytest.raises(LauncherError) as caught:
            sent(*lines)
        assert (caught.value.status, caught.value.code) == (508, "loop_detected")


def test_hiding_via_behind_connection_hides_no_loop() -> None:
    mine = (b"Via", b"1.1 " + PSEUDONYM)
    with pytest.raises(LauncherError):
        sent((b"Connection", b"Via"), mine, mine)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (None, None),
        (b"websocket", b"websocket"),
        (b"h2c", None),
        (b" H2C , websocket", b"websocket"),
        (b"foo/2, bar", b"foo/2, bar"),
        (b" , ", None),
    ],
)
def test_the_upgrade_that_travels(asked: bytes | None, wanted: bytes | None) -> None:
    assert wanted_upgrade(request(upgrade=asked)) == wanted
    assert wanted_upgrade(request(upgrade=asked, version=(1, 0))) is None


def test_an_upgrade_has_no_body() -> None:
    for body in ({"content_length": 3}, {"chunked": True}):
        with pytest.raises(LauncherError) as caught:
            wanted_upgrade(request("POST", upgrade=b"websocket", **body))
        assert caught.value.code == "bad_request"
    assert wanted_upgrade(request("POST", upgrade=b"h2c", content_length=3)) is None


def test_an_upgrade_is_written_anew() -> None:
    headers = sent((b"Connection", b"keep-alive, Upgrade"), upgrade=b"websocket")
    assert values(headers, b"connection") == [b"Upgrade"]
    assert values(headers, b"upgrade") == [b"websocket"]


def test_a_response_loses_what_is_of_its_connection() -> None:
    fields = response_headers(
        [
            (b"Set-Cookie", b"a=1"),
            (b"Connection", b"X-Hop, Keep-Alive, Content-Length"),
            (b"Keep-Alive", b"timeout=5"),
            (b"x-hop", b"1"),
            (b"Proxy-Authenticate", b"Basic"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Trailer", b"X-T"),
            (b"Upgrade", b"h2"),
            (b"content-length", b"5"),
            (b"Set-Cookie", b"b=2"),
            (b"X-Odd", b"\xe9\x80"),
        ]
    )
    assert fields.headers == (
        (b"Set-Cookie", b"a=1"),
        (b"content-length", b"5"),
        (b"Set-Cookie", b"b=2"),
        (b"X-Odd", b"\xe9\x80"),
    )
    assert fields.connection == {b"x-hop", b"keep-alive", b"content-length"}
    assert (fields.content_length, fields.codings, fields.upgrade) == (b"5", (b"chunked",), b"h2")


@given(st.binary(max_size=20), st.sampled_from([b"name", b"value", b"reason"]))
def test_control_characters_go_nowhere(data: bytes, where: bytes) -> None:
    bad = any((byte < 32 and byte != 9) or byte == 127 for byte in data)
    line = (data, b"v") if where == b"name" else (b"n", data)
    arguments = ([(b"n", b"v")], data) if where == b"reason" else ([line], b"OK")
    if not bad:
        response_headers(*arguments)
        return
    with pytest.raises(LauncherError) as caught:
        response_headers(*arguments)
    assert (caught.value.status, caught.value.code) == (502, "bad_upstream")
