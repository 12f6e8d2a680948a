"""Who has to go: pure functions over plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from launcher.core.types import BackendId, Needs

#: Among up to so many the cheapest set is found exactly; among more, one by one.
EXACT: Final = 12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A resident backend that may be stopped."""

    id: BackendId
    needs: Needs
    price: float
    """Seconds that it is expected to cost."""
    last_used: float


def fits(usage: Mapping[str, int], needs: Needs, capacity: Mapping[str, int]) -> bool:
    """Whether `needs` go beside `usage` without any resource of theirs above the capacity."""
    return all(usage.get(name, 0) + n <= capacity.get(name, 0) for name, n in needs)


def choose(
    candidates: Sequence[Candidate],
    needs: Needs,
    usage: Mapping[str, int],
    capacity: Mapping[str, int],
) -> tuple[Candidate, ...] | None:
    """The cheapest set whose stop makes room for `needs`, or None where none does.

    Among the equally cheap the least recently used go, ties by id. Nobody is in the set who
    need not be. Exact for up to `EXACT` candidates that matter, greedy above.
    """
    short = {
        name: usage.get(name, 0) + n - capacity.get(name, 0)
        for name, n in needs
        if usage.get(name, 0) + n > capacity.get(name, 0)
    }
    if not short:
        return ()
    order = sorted(
        (c for c in candidates if any(name in short for name, _ in c.needs)),
        key=lambda c: (c.price, c.last_used, c.id),
    )
    freed = {name: sum(n for c in order for k, n in c.needs if k == name) for name in short}
    if any(freed[name] < n for name, n in short.items()):
        return None
    return _exact(order, short) if len(order) <= EXACT else _greedy(order, short)


def _left(short: Mapping[str, int], needs: Needs) -> dict[str, int]:
    """What is still short once `needs` are free."""
    given = dict(needs)
    left = {name: n - given.get(name, 0) for name, n in short.items()}
    return {name: n for name, n in left.items() if n > 0}


def _exact(order: Sequence[Candidate], short: Mapping[str, int]) -> tuple[Candidate, ...]:
    """Branch and bound over the sets, the cheaper candidates first."""
    best: tuple[Candidate, ...] = _greedy(order, short)
    least = sum(c.price for c in best)

    def search(at: int, chosen: tuple[Candidate, ...], price: float, left: dict[str, int]) -> None:
        nonlocal best, least
        if not left:
            if price < least:
                best, least = chosen, price
            return
        for next in range(at, len(order)):
            candidate = order[next]
            if price + candidate.price >= least:
                return  # the rest cost at least as much
            if any(name in left for name, _ in candidate.needs):
                search(
                    next + 1,
                    (*chosen, candidate),
                    price + candidate.price,
                    _left(left, candidate.needs),
                )

    search(0, (), 0.0, dict(short))
    return _pruned(best, short)


def _greedy(order: Sequence[Candidate], short: Mapping[str, int]) -> tuple[Candidate, ...]:
    """The cheapest one by one, without those that turn out not to be needed."""
    left = dict(short)
    chosen: list[Candidate] = []
    for candidate in order:
        if not left:
            break
        if any(name in left for name, _ in candidate.needs):
            chosen.append(candidate)
            left = _left(left, candidate.needs)
    return _pruned(tuple(chosen), short)


def _pruned(chosen: tuple[Candidate, ...], short: Mapping[str, int]) -> tuple[Candidate, ...]:
    """Without those who need not go, the dearest spared first."""
    kept = list(chosen)
    for candidate in reversed(chosen):
        left = dict(short)
        for other in kept:
            if other is not candidate:
                left = _left(left, other.needs)
        if not left:
            kept.remove(candidate)
    return tuple(kept)
