"""Who has to go: pure functions over plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.core.types import BackendId, Needs


@dataclass(frozen=True, slots=True)
class Candidate:
    """A resident backend that may be stopped."""

    id: BackendId
    needs: Needs
    busy: bool
    """Something runs on it: it drains first."""
    last_used: float


def fits(usage: Mapping[str, int], needs: Needs, capacity: Mapping[str, int]) -> bool:
    """Whether `needs` go beside `usage` without any resource of theirs above the capacity."""
    return all(usage.get(name, 0) + n <= capacity.get(name, 0) for name, n in needs)


def choose(
    candidates: Sequence[Candidate],
    needs: Needs,
    usage: Mapping[str, int],
    capacity: Mapping[str, int],
) -> tuple[BackendId, ...] | None:
    """A set whose stop makes room for `needs`, or None where none does.

    Idle ones go before busy ones, then the least recently used, ties by id. Nobody is in the
    set who need not be: those whose place turns out unneeded are taken out again, the most
    recently used first.
    """
    left = dict(usage)
    chosen: list[Candidate] = []
    wanted = {name for name, _ in needs}
    order = sorted(candidates, key=lambda c: (c.busy, c.last_used, c.id))
    for candidate in order:
        if fits(left, needs, capacity):
            break
        if not any(
            name in wanted and left.get(name, 0) + dict(needs)[name] > capacity.get(name, 0)
            for name, _ in candidate.needs
        ):
            continue
        chosen.append(candidate)
        for name, n in candidate.needs:
            left[name] = left.get(name, 0) - n
    if not fits(left, needs, capacity):
        return None
    for candidate in reversed(list(chosen)):
        with_it = dict(left)
        for name, n in candidate.needs:
            with_it[name] = with_it.get(name, 0) + n
        if fits(with_it, needs, capacity):
            left = with_it
            chosen.remove(candidate)
    return tuple(candidate.id for candidate in chosen)
