"""When each route was last asked for, and the starts of each backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from launcher.config import LauncherConfig
from launcher.core.types import BackendId, Failure
from launcher.state.records import Starts
from launcher.telemetry.facts import Fact, StartEnded, StopStuck

#: Of so many backends that are no longer configured the starts are remembered.
REMEMBERED = 100


class History:
    """When each route was last asked for, and the starts of each backend.

    `fact` listens to `Narrator`. `starts` is what an earlier run counted; `save` is told of each
    new count. `last_hits` is asked when each route last had a request (seconds since 1970).
    """

    def __init__(
        self,
        config: LauncherConfig,
        starts: Mapping[BackendId, Starts] | None = None,
        save: Callable[[BackendId, Starts], None] | None = None,
        last_hits: Callable[[], Mapping[str, float]] = dict,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.since = wall()
        """When the launcher came up, in seconds since 1970."""
        self._last_hits = last_hits
        self._routes: tuple[str, ...] = ()
        self.starts: dict[BackendId, Starts] = {}
        self._counted = dict(starts or {})
        self.errors: dict[BackendId, tuple[Failure, float]] = {}
        """The last failure of each backend, and when that was (seconds since 1970)."""
        self.reconfigure(config)
        self._save = save
        self._wall = wall

    def reconfigure(self, config: LauncherConfig) -> None:
        """Keep to these routes and backends from now on."""
        self._routes = tuple(route.name for route in config.routes)
        # What comes back counts on; the latest stand last.
        for id, starts in self.starts.items():
            self._counted.pop(id, None)
            self._counted[id] = starts
        for id in list(self._counted)[: -(REMEMBERED + len(config.backends))]:
            del self._counted[id]
        self.starts = {one.id: self._counted.get(one.id, Starts()) for one in config.backends}
        self.errors = {id: told for id, told in self.errors.items() if id in self.starts}

    @property
    def last_hits(self) -> dict[str, float | None]:
        """When each route was last asked for, in seconds since 1970; None: not in this run."""
        found = self._last_hits()
        return {name: found.get(name) for name in self._routes}

    def fact(self, fact: Fact) -> None:
        """Counts the starts that led to a ready backend; adoptions aren't starts."""
        if not isinstance(fact, StartEnded | StopStuck):
            return
        known = self.starts.get(fact.backend)
        if known is None:
            return  # a backend that a reload has taken away
        if fact.failure is not None:
            self.errors[fact.backend] = (fact.failure, self._wall())
        if isinstance(fact, StopStuck) or fact.adopted or fact.outcome != "ready":
            return
        self.starts[fact.backend] = counted = known.plus(fact.seconds, self._wall())
        if self._save is not None:
            self._save(fact.backend, counted)
