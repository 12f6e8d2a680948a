"""`/api/drain` and `/api/resume`."""

from __future__ import annotations

from launcher.api.drain import DrainApi, DrainBody
from launcher.api.health import problems
from tests.api.world import read, request
from tests.control.house import Life, life, living
from tests.runtime.house import A
from tests.runtime.virtual_clock import virtual


def api(run: Life) -> DrainApi:
    return DrainApi(run.house.dispatcher, run.plane.drains)


@virtual
async def test_one_route_and_everything() -> None:
    async with living(life()) as run:
        with run.house.asking(A) as stream:
            await stream.granted()
            told = read(await api(run).drain(request(body=DrainBody(route="a"))))
            assert told == {
                "all": False,
                "routes": ["a"],
                "backends": [{"backend": "a", "state": "ready", "in_flight": 1, "queued": 0}],
            }
            assert ("drains", "a") in run.store.synced
        control = run.house.dispatcher
        assert problems(control, control.snapshot()) == []
        told = read(await api(run).drain(request(body=DrainBody())))
        assert (told["all"], told["routes"]) == (True, ["a", "b", "c"])
        (problem,) = problems(control, control.snapshot())
        assert problem["code"] == "draining"
        told = read(await api(run).resume(request(body=DrainBody())))
        assert told == {"all": False, "routes": [], "backends": []}
        assert not [key for table, key in run.store.synced if table == "drains"]
