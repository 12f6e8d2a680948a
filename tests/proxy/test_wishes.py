"""Headers make a request meeker, never bolder."""

from __future__ import annotations

import pytest

from launcher.core.types import Priority, Wake
from launcher.errors import LauncherError
from launcher.proxy.wishes import wishes
from tests.proxy.fake_exchange import request

INTERACTIVE, NORMAL, BATCH = Priority


@pytest.mark.parametrize(
    ("route", "sent", "meant"),
    [
        (NORMAL, [], NORMAL),
        (NORMAL, [b"batch"], BATCH),
        (NORMAL, [b"interactive"], NORMAL),
        (INTERACTIVE, [b" Normal "], NORMAL),
        (INTERACTIVE, [b"batch", b"interactive"], BATCH),
    ],
)
def test_the_lower_class(route: Priority, sent: list[bytes], meant: Priority) -> None:
    head = request(headers=tuple((b"X-Launcher-Priority", value) for value in sent))
    assert wishes(head, route, Wake.ALWAYS) == (meant, Wake.ALWAYS)


@pytest.mark.parametrize(
    ("route", "sent", "meant"),
    [
        (Wake.ALWAYS, b"if-idle", Wake.IF_IDLE),
        (Wake.ALWAYS, b"never", Wake.NEVER),
        (Wake.IF_IDLE, b"always", Wake.IF_IDLE),
        (Wake.NEVER, b"if-idle", Wake.NEVER),
    ],
)
def test_the_meeker_wake(route: Wake, sent: bytes, meant: Wake) -> None:
    head = request(headers=((b"x-launcher-WAKE", sent),))
    assert wishes(head, NORMAL, route) == (NORMAL, meant)


def test_a_value_nobody_knows() -> None:
    for name, value, known in (
        (b"X-Launcher-Priority", b"urgent", "interactive, normal, batch"),
        (b"X-Launcher-Wake", b"\xff", "always, if-idle, never"),
        (b"X-Launcher-Wake", b"", "always, if-idle, never"),
    ):
        with pytest.raises(LauncherError, match=known) as caught:
            wishes(request(headers=((name, value),)), NORMAL, Wake.ALWAYS)
        assert (caught.value.code, caught.value.status) == ("bad_request", 400)
        assert caught.value.param == name.decode()
