"""Sockets to listen on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from launcher.errors import ConfigError
from launcher.http.endpoint import Listen
from launcher.http.listener import bind


def test_a_free_port_is_told() -> None:
    (bound,) = bind([Listen("127.0.0.1", 0)])
    try:
        assert bound.address.port > 0
        with socket.create_connection(("127.0.0.1", bound.address.port), timeout=5) as client:
            assert client.getpeername()[1] == bound.address.port
    finally:
        bound.remove()


def test_operators_addresses_come_last_and_all_are_theirs_where_there_are_none() -> None:
    local = Listen("127.0.0.1", 0)
    for operators, theirs in (([], [True, True]), ([local], [False, False, True])):
        bound = bind([local, local], operators)
        assert [one.operators for one in bound] == theirs
        for one in bound:
            one.remove()


def test_a_port_can_be_had_again_at_once() -> None:
    (first,) = bind([Listen("127.0.0.1", 0)])
    client = socket.create_connection(("127.0.0.1", first.address.port), timeout=5)
    accepted, _ = first.sock.accept()
    accepted.close()  # ours closes first: the port stays in TIME_WAIT
    client.close()
    first.remove()
    (second,) = bind([first.address])
    assert second.address == first.address
    second.remove()


def test_all_or_nothing_and_every_problem_is_named(tmp_path: Path) -> None:
    (taken,) = bind([Listen("127.0.0.1", 0)])
    path = tmp_path / "ours.sock"
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError) as raised:
        bind([Listen(unix_path=str(path)), taken.address, Listen(unix_path=str(file))])
    taken.remove()
    first, second = raised.value.problems
    assert f"127.0.0.1:{taken.address.port}: it is in use" in first
    assert "isn't a socket" in second
    assert not path.exists()
    assert file.read_text() == "x"


def test_a_name_that_is_no_address() -> None:
    with pytest.raises(ConfigError, match=r"can't listen on 192\.0\.2\.1:0"):
        bind([Listen("192.0.2.1", 0)])


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(path)
        crashed.listen()
    (bound,) = bind([Listen(unix_path=path)])
    with pytest.raises(ConfigError, match="in use"):
        bind([Listen(unix_path=path)])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    bound.remove()
    assert not Path(path).exists()


def test_a_path_that_somebody_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (bound,) = bind([Listen(unix_path=str(path))])
    path.rename(tmp_path / "moved")
    path.write_text("theirs")
    bound.remove()
    assert path.read_text() == "theirs"
    (again,) = bind([Listen(unix_path=str(tmp_path / "t"))])
    (tmp_path / "t").unlink()
    again.remove()
    assert not (tmp_path / "t").exists()
