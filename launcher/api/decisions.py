"""`GET /api/decisions`: why things were done, the newest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

from launcher.api.answers import json_answer, timestamp
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.view import decision
from launcher.config import LauncherConfig
from launcher.core.types import BackendId
from launcher.decisions import MOST, DecisionLog
from launcher.errors import LauncherError

#: How many are shown to who doesn't say.
SHOWN = 100


class Decisions:
    """The decision log's endpoint."""

    def __init__(
        self, config: LauncherConfig, log: DecisionLog, wall: Callable[[], float] = time.time
    ) -> None:
        self._known = [one.id for one in config.backends]
        self._log = log
        self._wall = wall

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /api/decisions: `?limit=` at most so many, `?backend=` those that name it."""
        newest = self._log.newest(self._backend(request.args.get("backend")))
        limit = _limit(request.args.get("limit", str(SHOWN)))
        return json_answer(
            {
                "serverTime": timestamp(self._wall()),
                "decisions": [
                    {
                        "number": one.number,
                        "at": timestamp(one.at),
                        "times": one.times,
                        **decision(one.what),
                    }
                    for one in islice(newest, limit)
                ],
            }
        )

    def _backend(self, name: str | None) -> BackendId | None:
        if name is None or name in self._known:
            return None if name is None else BackendId(name)
        known = ", ".join(self._known) or "none"
        raise LauncherError(
            "bad_request", f"No backend of that name. Known: {known}.", param="backend"
        )


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= len(text) <= 9:
        return min(int(text), MOST)
    raise LauncherError(
        "bad_request", f"limit has to be a whole number; {MOST} are kept.", param="limit"
    )
