"""Starting and stopping by hand."""

from __future__ import annotations

import asyncio

import pytest

from launcher import tasks
from launcher.api.control import StartQuery, StopQuery, Switches
from launcher.core.types import BackendId, BackendState, Failure, Priority, Wake
from launcher.errors import LauncherError
from launcher.tasks import Group
from tests.api.world import CODER, CONFIG, FakeControl, read, request


async def until(condition: object) -> None:
    """Wait until something called comes true."""
    assert callable(condition)
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the code under test has no event to offer
            await asyncio.sleep(0)


class TestStart:
    async def test_answers_at_once_and_holds_a_ticket_until_it_is_granted(self) -> None:
        control = FakeControl()
        control.on_admit = lambda _: control.put(CODER, BackendState.STARTING)
        switches = Switches(CONFIG, control)

        answer = await switches.start(request("POST", name="coder", query=StartQuery()))

        assert answer.status == 202
        assert read(answer) == {
            "route": "coder",
            "state": "starting",
            "backends": [{"backend": "coder", "state": "starting"}],
        }
        (admission,) = control.admissions
        assert admission.ask.operator
        assert (admission.ask.priority, admission.ask.wake) == (Priority.NORMAL, Wake.ALWAYS)
        assert admission.ask.backends == (CODER,)
        assert admission.ask.queue_timeout == 1800.0
        assert not admission.left
        admission.settle()
        await until(lambda: admission.left)

    async def test_what_is_ready_already_is_told_at_once(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY)
        control.on_admit = lambda admission: admission.settle(cold=False)

        answer = await Switches(CONFIG, control).start(
            request("POST", name="coder", query=StartQuery())
        )

        assert answer.status == 200
        body = read(answer)
        assert (body["state"], body["coldStart"], body["waitedMs"]) == ("ready", False, 0)
        assert control.admissions[0].left

    async def test_a_rejection_at_once_is_told_without_waiting(self) -> None:
        control = FakeControl()
        error = LauncherError("backend_missing", "no such container")
        control.on_admit = lambda admission: admission.settle(error)

        with pytest.raises(LauncherError, match="no such container"):
            await Switches(CONFIG, control).start(request("POST", name="coder", query=StartQuery()))

        assert control.admissions[0].left

    async def test_waiting_answers_when_it_is_ready(self) -> None:
        control = FakeControl()
        waiting = asyncio.ensure_future(
            Switches(CONFIG, control).start(
                request("POST", name="coder", query=StartQuery(wait=True))
            )
        )
        await until(lambda: control.admissions)
        await asyncio.sleep(0)
        assert not waiting.done()

        control.put(CODER, BackendState.READY)
        control.admissions[0].settle()
        answer = await waiting

        assert answer.status == 200
        assert read(answer)["backend"] == "coder"
        assert read(answer)["waitedMs"] == 12_500
        assert control.admissions[0].left

    async def test_waiting_ends_with_the_error_of_the_start(self) -> None:
        control = FakeControl()
        failed = LauncherError("backend_start_failed", "exit code 1", detail="log")
        control.on_admit = lambda admission: admission.settle(failed)

        with pytest.raises(LauncherError) as caught:
            await Switches(CONFIG, control).start(
                request("POST", name="coder", query=StartQuery(wait=True))
            )

        assert caught.value is failed
        assert control.admissions[0].left

    async def test_an_operator_who_leaves_gives_up_the_place(self) -> None:
        control = FakeControl()
        waiting = asyncio.ensure_future(
            Switches(CONFIG, control).start(
                request("POST", name="coder", query=StartQuery(wait=True))
            )
        )
        await until(lambda: control.admissions)
        await asyncio.sleep(0)

        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert control.admissions[0].left

    async def test_the_end_of_the_launcher_gives_up_the_starts_it_holds(self) -> None:
        control = FakeControl()
        holds = Group()
        switches = Switches(CONFIG, control, holds)
        await switches.start(request("POST", name="coder", query=StartQuery()))

        await holds.cancel()

        assert control.admissions[0].left

    async def test_an_unknown_route_names_those_known(self) -> None:
        control = FakeControl()

        with pytest.raises(LauncherError, match="coder, chat, tiny") as caught:
            await Switches(CONFIG, control).start(request("POST", name="nope", query=StartQuery()))

        assert caught.value.code == "unknown_route"
        assert control.admissions == []


class TestStop:
    async def test_answers_at_once(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY, in_flight=1)
        control.on_stop = lambda backend: control.put(backend, BackendState.DRAINING)

        answer = await Switches(CONFIG, control).stop(
            request("POST", name="coder", query=StopQuery())
        )

        assert answer.status == 202
        assert read(answer)["state"] == "draining"
        assert control.stops == [(CODER, False)]

    async def test_what_does_not_run_is_left_alone(self) -> None:
        control = FakeControl()

        answer = await Switches(CONFIG, control).stop(
            request("POST", name="coder", query=StopQuery())
        )

        assert (answer.status, read(answer)["state"]) == (200, "stopped")
        assert control.stops == []

    async def test_force_is_passed_on(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY)

        await Switches(CONFIG, control).stop(
            request("POST", name="coder", query=StopQuery(force=True))
        )

        assert control.stops == [(CODER, True)]

    async def test_what_a_reload_takes_away_meanwhile_is_stopped(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY)
        control.on_stop = lambda backend: control.put(backend, BackendState.STOPPING)
        waiting = tasks.spawn(
            Switches(CONFIG, control).stop(
                request("POST", name="coder", query=StopQuery(wait=True))
            ),
            name="stop",
        )
        await until(lambda: control.stops)

        del control.backends[CODER]

        answer = await waiting
        assert (answer.status, read(answer)["state"]) == (200, "stopped")
        late = await Switches(CONFIG, control).stop(
            request("POST", name="coder", query=StopQuery())
        )
        assert (late.status, read(late)["backends"]) == (200, [])

    async def test_waiting_answers_when_nothing_runs(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY)
        control.on_stop = lambda backend: control.put(backend, BackendState.STOPPING)
        waiting = asyncio.ensure_future(
            Switches(CONFIG, control).stop(
                request("POST", name="coder", query=StopQuery(wait=True))
            )
        )
        await until(lambda: control.stops)
        await asyncio.sleep(0)
        assert not waiting.done()

        control.put(CODER, BackendState.STOPPED)

        assert read(await waiting)["state"] == "stopped"

    async def test_waiting_ends_where_it_is_started_anew_between_two_looks(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY, instance="one")

        def stop(backend: BackendId) -> None:
            control.put(backend, BackendState.STOPPED, instance=None)
            control.put(backend, BackendState.STARTING)

        control.on_stop = stop

        answer = await Switches(CONFIG, control).stop(
            request("POST", name="coder", query=StopQuery(wait=True))
        )

        assert read(answer)["state"] == "starting"

    async def test_waiting_ends_where_another_instance_is_ready_by_now(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY, instance="one")
        control.on_stop = lambda backend: control.put(backend, BackendState.READY, instance="two")

        answer = await Switches(CONFIG, control).stop(
            request("POST", name="coder", query=StopQuery(wait=True))
        )

        assert answer.status == 200

    async def test_a_stop_that_does_not_end_is_an_error(self) -> None:
        control = FakeControl()
        control.put(CODER, BackendState.READY)
        stuck = Failure("backend_stop_failed", "still there after SIGKILL", "pid 7")
        control.on_stop = lambda backend: control.put(
            backend, BackendState.STOPPING, stop_failure=stuck
        )

        with pytest.raises(LauncherError, match="still there after SIGKILL") as caught:
            await Switches(CONFIG, control).stop(
                request("POST", name="coder", query=StopQuery(wait=True))
            )

        assert (caught.value.code, caught.value.detail) == ("backend_stop_failed", "pid 7")
