"""The engine's JSON as typed data, sparse and odd JSON included."""

from __future__ import annotations

import pytest

from launcher.drivers.inspected import Published, container, epoch

RUNNING = {
    "Id": "c0ffee" * 10 + "c0de",
    "Name": "/coder",
    "State": {
        "Status": "running",
        "Running": True,
        "StartedAt": "2026-01-02T03:04:05.123456789Z",
        "ExitCode": 0,
        "Health": {"Status": "healthy"},
    },
    "Config": {"Tty": False, "Hostname": "c0ffeec0ffee"},
    "HostConfig": {"NetworkMode": "bridge", "RestartPolicy": {"Name": "always"}},
    "NetworkSettings": {
        "Networks": {
            "b": {"NetworkID": "2", "IPAddress": "10.0.0.2", "Gateway": "10.0.0.1"},
            "a": {"NetworkID": "1", "IPAddress": "", "GlobalIPv6Address": "fd00::2"},
        },
        "Ports": {
            "8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}],
            "8000/udp": [{"HostIp": "0.0.0.0", "HostPort": "1"}],
            "9000/tcp": None,
        },
    },
}


def state(**changes: object) -> dict[str, object]:
    return {**RUNNING, "State": {**RUNNING["State"], **changes}}  # type: ignore[dict-item]


def test_a_running_container() -> None:
    one = container(RUNNING)
    assert one.name == "coder"
    assert one.instance == "c0ffeec0ffee@2026-01-02T03:04:05.123456789Z"
    assert [n.address for n in one.networks] == ["fd00::2", "10.0.0.2"]
    assert one.published == (Published(8000, "0.0.0.0", 32768),)
    assert one.restart_policy == "always"
    started = epoch("2026-01-02T03:04:05.123456Z")
    assert started
    seen = one.observation(started + 5)
    assert seen.running
    assert seen.running_for == pytest.approx(5, abs=0.01)
    assert seen.health == "healthy"
    assert seen.exit_code is None


def test_a_clock_behind_gives_no_negative_time() -> None:
    assert container(RUNNING).observation(0.0).running_for == 0.0


def test_a_created_container_never_ran() -> None:
    one = container(
        state(Status="created", Running=False, StartedAt="0001-01-01T00:00:00Z", Health=None)
    )
    seen = one.observation(1e10)
    assert one.instance is None
    assert (seen.exists, seen.running, seen.exit_code, seen.health) == (True, False, None, None)


def test_a_dead_container_tells_how_it_ended() -> None:
    one = container(state(Status="exited", Running=False, ExitCode=137, OOMKilled=True))
    seen = one.observation(1e10)
    assert (seen.running, seen.exit_code, seen.oom_killed) == (False, 137, True)
    assert seen.health is None
    assert seen.running_for == 0


def test_between_restarts_it_does_not_run() -> None:
    one = container(state(Status="restarting", Running=True, ExitCode=1))
    assert not one.occupies
    assert one.observation(1e10).exit_code == 1


def test_a_paused_container_keeps_what_it_has() -> None:
    one = container(state(Status="paused", Running=True))
    assert one.observation(1e10).running


def test_sparse_json_is_survived() -> None:
    one = container({"State": None, "NetworkSettings": {"Networks": None, "Ports": {}}})
    assert not one.running
    assert one.networks == ()
    assert one.restart_policy == "no"


@pytest.mark.parametrize(
    "written", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1Z", "2026-01-02T11:04:05.5+08:00"]
)
def test_times_are_read_as_the_engine_writes_them(written: str) -> None:
    found = epoch(written)
    assert found is not None
    assert int(found) == 1767323045


def test_no_time_is_none() -> None:
    assert epoch("") is None
