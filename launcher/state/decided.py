"""How decisions stand in the state file."""

from __future__ import annotations

from dataclasses import asdict

import orjson

from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId
from launcher.state.store import StateStore
from launcher.state.tables import Cell, Table
from launcher.telemetry.decisions import Decision


def _cells(kept: Decision) -> tuple[Cell, ...]:
    fields = asdict(kept.what)
    fields["deed"] = fields.pop("action")
    return kept.at, kept.times, orjson.dumps(fields).decode()


def _record(number: int, at: float, times: int, text: str) -> Decision:
    fields = orjson.loads(text)
    fields["action"] = Action(fields.pop("deed"))
    fields["pays"] = tuple(BackendId(id) for id in fields["pays"])
    return Decision(number, float(at), Decided(**fields), int(times))


DECISIONS: Table[int, Decision] = Table(
    "decisions", ("number", "at", "times", "record"), _cells, _record
)


class DecisionKeeper:
    """Keeps the decision log: see `launcher.telemetry.decisions.Keep`."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    @property
    def kept(self) -> list[Decision]:
        """Those of earlier runs, the oldest first."""
        return list(self._store.loaded(DECISIONS).values())

    def keep(self, new: Decision, gone: int | None) -> None:
        """One is new or has changed; one may go for it."""
        self._store.put(DECISIONS, new.number, new)
        if gone is not None:
            self._store.drop(DECISIONS, gone)
