# ruff: noqa: E501 - the texts are the lines that they replace
"""Copies of the core with one rule broken each: the tests must notice every one of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from types import ModuleType

from tests.core.stage import Make

#: The modules that decide, in the order of their imports. Types and events stay shared.
MODULES = (
    "habits",
    "queue",
    "backend",
    "eviction",
    "leases",
    "policy",
    "refusal",
    "binding",
    "demand",
    "books",
    "world",
    "placing",
    "forecast",
    "rehearsal",
    "operators",
    "scheduler",
)


@dataclass(frozen=True)
class Mutant:
    """One rule, and the text whose change breaks it."""

    rule: str
    module: str
    old: str
    new: str


def load(mutant: Mutant) -> Make:
    """The scheduler class of a copy of the core with the mutant's change."""
    made: dict[str, ModuleType] = {}
    for name in MODULES:
        text = (resources.files("launcher.core") / f"{name}.py").read_text()
        if name == mutant.module:
            if text.count(mutant.old) != 1:
                raise LookupError(f"{mutant.rule}: {mutant.old!r} stands {text.count(mutant.old)}x")
            text = text.replace(mutant.old, mutant.new)
        for other in MODULES:
            text = text.replace(f"launcher.core.{other} ", f"broken_core.{other} ")
        for import_ in ("binding, operators, placing", "eviction"):
            text = text.replace(
                f"from launcher.core import {import_}", f"from broken_core import {import_}"
            )
        module = made[name] = ModuleType(f"broken_core.{name}")
        package = ModuleType("broken_core")
        for key, one in made.items():
            setattr(package, key, one)
            sys.modules[f"broken_core.{key}"] = one
        sys.modules["broken_core"] = package
        exec(compile(text, f"broken_core/{name}.py", "exec"), module.__dict__)
    for key in [k for k in sys.modules if k.startswith("broken_core")]:
        del sys.modules[key]
    scheduler: Make = made["scheduler"].Scheduler
    return scheduler


MUTANTS = [
    Mutant(
        "capacity: a start waits until it fits",
        "placing",
        '            if fits(self.used, needs, world.capacity):\n                add(self.used, needs)\n                world.start(backend, "wanted" if backend.queue else "leased", now)\n',
        '            if True:\n                add(self.used, needs)\n                world.start(backend, "wanted" if backend.queue else "leased", now)\n',
    ),
    Mutant(
        "needs are kept until the stop is confirmed",
        "placing",
        "            add(self.used, backend.needs)\n            if not _leaving",
        "            if backend.state is not BackendState.STOPPING:\n                add(self.used, backend.needs)\n            if not _leaving",
    ),
    Mutant(
        "nothing starts before everything has been seen",
        "placing",
        "        for backend in world.unseen.values():\n",
        "        for backend in ():\n",
    ),
    Mutant(
        "arrivals join a start under way",
        "demand",
        "_COLD = (BackendState.STOPPED, BackendState.FAILED)\n_COMING = (BackendState.STARTING, BackendState.READY)",
        "_COLD = (BackendState.STOPPED, BackendState.FAILED, BackendState.STARTING)\n_COMING = (BackendState.READY,)",
    ),
    Mutant(
        "a ticket counts as in flight from its grant on",
        "books",
        "        backend.in_flight[ticket.id] = now\n",
        "        backend.in_flight.setdefault(ticket.id, now) if not cold else None\n",
    ),
    Mutant(
        "a newly ready backend carries its waiters' tickets",
        "world",
        "        backend.deadline = math.inf\n        self.serve(backend, now)\n",
        "        backend.deadline = math.inf\n",
    ),
    Mutant(
        "nobody is stopped under a request",
        "world",
        "        if backend.holding and not overrun:\n            return\n",
        "",
    ),
    Mutant(
        "the busy drain only for the overdue",
        "placing",
        "        until = math.inf\n        if need:\n",
        "        until = math.inf\n        if True:\n",
    ),
    Mutant(
        "the overdue do make the busy drain",
        "placing",
        "self._give(backend, need)",
        "self._give(backend, Need.PATIENT)",
    ),
    Mutant(
        "minimum residency",
        "placing",
        "until = backend.ready_at + self.policy.residency(cost, overdue=overdue)",
        "until = backend.ready_at",
    ),
    Mutant(
        "minimum residency is the sum of all who wait",
        "demand",
        "cost + units * entry.cost",
        "max(cost, units * entry.cost)",
    ),
    Mutant(
        "a drain ends when those it was for leave",
        "placing",
        "                self.world.undrain(backend, self.now)\n",
        "                pass\n",
    ),
    Mutant(
        "the least recently used goes first",
        "eviction",
        "(c.price, c.last_used, c.id)",
        "(c.price, -c.last_used, c.id)",
    ),
    Mutant(
        "nobody goes who need not",
        "eviction",
        "            kept.remove(candidate)\n",
        "            pass\n",
    ),
    Mutant(
        "the overdue are not overtaken",
        "placing",
        "        if chosen is not None or need:\n",
        "        if chosen is None:\n",
    ),
    Mutant(
        "idle time counts from the end of the last ticket",
        "books",
        "            backend.last_used = now\n            if not backend.holding",
        "            if not backend.holding",
    ),
    Mutant(
        "a ticket in flight is activity",
        "backend",
        "if self.state is not BackendState.READY or self.holding or self.holds:",
        "if self.state is not BackendState.READY or self.holds:",
    ),
    Mutant(
        "a silent tunnel holds nothing",
        "backend",
        "return len(self.in_flight) - len(self.silent)",
        "return len(self.in_flight)",
    ),
    Mutant(
        "a tunnel that speaks again holds again",
        "scheduler",
        "            backend.silent.discard(event.ticket)\n",
        "            pass\n",
    ),
    Mutant(
        "quiet requests wake nothing",
        "scheduler",
        "        if ticket.quiet or not self._may_wait",
        "        if not self._may_wait",
    ),
    Mutant(
        "quiet requests keep nothing",
        "books",
        "            backend.silent.add(ticket.id)\n            backend.mute",
        "            backend.silent.discard(ticket.id)\n            backend.mute",
    ),
    Mutant(
        "a backend with work of its own is asked before an eviction",
        "world",
        "        if soft and backend.spec.asks_busy and",
        "        if backend.drain_reason is StopReason.IDLE and backend.spec.asks_busy and",
    ),
    Mutant(
        "a busy answer holds like a ticket",
        "backend",
        "return self.holding > 0 or (self.busy and now < self.ask_at)",
        "return self.holding > 0",
    ),
    Mutant(
        "a request takes an idle stop back",
        "placing",
        "(reason is StopReason.IDLE and not backend.queue)",
        "reason is StopReason.IDLE",
    ),
    Mutant(
        "what ran on something dead holds nothing",
        "world",
        "        backend.silent.update(backend.in_flight)\n",
        "",
    ),
    Mutant(
        "a failed start tells all who wait",
        "world",
        "        self.reject_queue(backend, failure, now, backend.backoff)\n",
        "",
    ),
    Mutant(
        "back-off refuses at once",
        "refusal",
        "if backend.retry_at is not None and now < backend.retry_at and",
        "if backend.retry_at is not None and now < 0 and",
    ),
    Mutant(
        "the back-off doubles",
        "world",
        "return min(LAST_BACKOFF, backoff * 2) if backoff else FIRST_BACKOFF",
        "return FIRST_BACKOFF",
    ),
    Mutant(
        "the back-off ends at five minutes",
        "world",
        "return min(LAST_BACKOFF, backoff * 2) if backoff else FIRST_BACKOFF",
        "return backoff * 2 if backoff else FIRST_BACKOFF",
    ),
    Mutant(
        "a good exchange resets the back-off",
        "books",
        "            backend.backoff = 0.0\n            backend.failure = None\n",
        "            pass\n",
    ),
    Mutant(
        "an operator clears the back-off",
        "scheduler",
        "        if ticket.operator or ticket.urgent:\n            backend.retry_at = None\n",
        "",
    ),
    Mutant(
        "a failed start is stopped before its place is free",
        "world",
        "        self.stop(backend, StopReason.FAILED_START, now)\n",
        "        backend.state = BackendState.FAILED\n        backend.epoch += 1\n",
    ),
    Mutant(
        "queues are bounded",
        "refusal",
        "if len(backend.queue) >= backend.spec.max_queue and not ordered:",
        "if len(backend.queue) < 0:",
    ),
    Mutant(
        "a wait ends at its deadline",
        "scheduler",
        '                world.reject(waiting, ticket, Failure("queue_timeout", message), now)\n',
        "                pass\n",
    ),
    Mutant(
        "old outcomes are ignored",
        "scheduler",
        "if backend is None or event.epoch != backend.epoch:\n            return False\n        match event:",
        "if backend is None:\n            return False\n        match event:",
    ),
    Mutant(
        "old observations are ignored",
        "scheduler",
        "        if event.epoch != backend.epoch:\n            world.effects.append(Inspect(backend.id))\n            return False\n",
        "",
    ),
    Mutant(
        "what runs is adopted",
        "scheduler",
        "elif not backend.resident and event.running and not world.closed:",
        "elif not backend.resident and event.running and world.closed:",
    ),
    Mutant(
        "a death is believed",
        "scheduler",
        "                world.died(backend, now)\n                return True\n",
        "                return True\n",
    ),
    Mutant(
        "a restart by somebody else is noticed",
        "scheduler",
        "if event.instance != backend.instance:",
        "if event.instance is None:",
    ),
    Mutant(
        "idle surplus is stopped",
        "placing",
        "                world.drain(backend, StopReason.SURPLUS, now)\n",
        "                pass\n",
    ),
    Mutant(
        "prewarmed surplus goes last",
        "placing",
        "(b.spec.prewarm is not None, b.used_at, b.id)",
        "(b.spec.prewarm is None, b.used_at, b.id)",
    ),
    Mutant(
        "prewarm keeps its order",
        "placing",
        "key=lambda b: (b.spec.prewarm or 0, b.id)",
        "key=lambda b: b.id",
    ),
    Mutant(
        "a stop that fails is retried",
        "scheduler",
        "                world.retry_stop(backend, now)\n",
        "                pass\n",
    ),
    Mutant(
        "those who wait for a stuck backend are told",
        "refusal",
        "    if backend.stop_failure is not None:\n        return stuck(backend), None\n",
        "",
    ),
    Mutant(
        "an engine that is away is told at once",
        "refusal",
        "    if backend.unreachable is not None and backend.state not in _UP:\n        return backend.unreachable, None\n",
        "",
    ),
    Mutant(
        "who can't be stopped is not evicted",
        "placing",
        "            if backend.unreachable is not None or backend.holds:\n                continue\n",
        "            if backend.holds:\n                continue\n",
    ),
    Mutant(
        "nobody waits for the place of who can't be stopped",
        "placing",
        "if stuck or (backend.state in _UP and backend.unreachable is not None):",
        "if stuck:",
    ),
    Mutant(
        "surplus that can't be stopped stays",
        "placing",
        "            and b.unreachable is None\n",
        "",
    ),
    Mutant(
        "an idle stop waits for its engine",
        "backend",
        "        if self.unreachable is not None:\n            return math.inf  # nobody could stop it\n",
        "",
    ),
    Mutant(
        "a drain ends when its engine goes away",
        "scheduler",
        "                    world.undrain(backend, now)\n        return True\n",
        "                    pass\n        return True\n",
    ),
    Mutant(
        "failed stops are retried when their engine is back",
        "scheduler",
        "                    backend.stop_retry_at = now\n",
        "                    pass\n",
    ),
    Mutant(
        "who ended although its stop failed is seen to have",
        "scheduler",
        "elif backend.stop_retry_at is not None and not event.running:",
        "elif False:",
    ),
    Mutant(
        "a hung backend's exchanges are cut",
        "scheduler",
        '        world.cut(backend, f"{id} no longer answers and is started anew.", now)\n',
        "",
    ),
    Mutant(
        "a start that never answers is ended",
        "scheduler",
        "now >= backend.deadline + START_MARGIN",
        "now < 0",
    ),
    Mutant(
        "an operator's force cuts",
        "operators",
        '            world.cut(backend, f"{id} was stopped by an operator.", now)\n',
        "            pass\n",
    ),
    Mutant(
        "a closing launcher refuses",
        "operators",
        "    world.closed = True\n",
        "    pass\n",
    ),
    Mutant(
        "so many at a time",
        "books",
        "        while backend.room:\n",
        "        while True:\n",
    ),
    Mutant(
        "an arrival finds the bound too",
        "scheduler",
        "            if self._serves(backend, now):\n",
        "            if True:\n",
    ),
    Mutant(
        "who waits its turn has it when one ends",
        "scheduler",
        "        if backend.queue or world.elsewhere:\n            world.serve(backend, now)\n",
        "",
    ),
    Mutant(
        "a drain serves who came before it",
        "books",
        "            until = backend.drain_from\n",
        "            return\n",
    ),
    Mutant(
        "a drain serves nobody who came later",
        "books",
        "            until = backend.drain_from\n",
        "            pass\n",
    ),
    Mutant(
        "a tunnel fallen silent gives its turn away",
        "scheduler",
        "            backend.silent.add(event.ticket)\n            self._world.serve(backend, now)\n",
        "            backend.silent.add(event.ticket)\n",
    ),
    Mutant(
        "an idle one lingers",
        "placing",
        "            until = min(until, idle_at + self.policy.linger(backend, tickets))\n",
        "            return True\n",
    ),
    Mutant(
        "lingering ends when somebody is urgent",
        "placing",
        "        if need:\n            overdue",
        "        if need and busy:\n            overdue",
    ),
    Mutant(
        "lingering is learned",
        "habits",
        "        return best * SLACK",
        "        return UNKNOWN",
    ),
    Mutant(
        "lingering counts those who wait",
        "habits",
        "price = waiting * (below",
        "price = (below",
    ),
    Mutant(
        "gaps count from falling idle",
        "books",
        "                backend.habits.fell_idle(now)\n            if ok:",
        "                pass\n            if ok:",
    ),
    Mutant(
        "lingering has a bound of its own",
        "policy",
        "return min(idle.spec.linger, idle.habits",
        "return max(0.0, idle.habits",
    ),
    Mutant(
        "lingering can be turned off",
        "policy",
        "        if idle.spec.linger <= 0:\n            return 0.0\n        return min(idle.spec.linger, idle.habits",
        "        return max(0.0, idle.habits",
    ),
    Mutant(
        "what loads slowly is spared",
        "placing",
        "return backend.swap_cost * wanted",
        "return wanted",
    ),
    Mutant(
        "who is wanted soon is spared",
        "placing",
        "wanted = backend.habits.wanted(SOON, self.now)",
        "wanted = 1.0",
    ),
    Mutant(
        "who hasn't been asked for long is spared less",
        "habits",
        "every = max(self._every or 0.0, now - self._last)",
        "every = self._every or 60.0",
    ),
    Mutant(
        "work that has to be waited for has a price",
        "placing",
        "return backend.swap_cost + backend.work",
        "return 0.0",
    ),
    Mutant(
        "one that is going is chosen anew each time",
        "placing",
        "price = self._price(backend) * GOING",
        "price = -1.0",
    ),
    Mutant(
        "the higher class goes first",
        "policy",
        "rank = float(wanting.queue.rank(now))",
        "rank = 0.0",
    ),
    Mutant(
        "the overdue go before the rest of their class",
        "policy",
        "        if due <= now:\n            return (rank, 0.0, due)\n",
        "",
    ),
    Mutant(
        "the most tickets for the cost",
        "policy",
        "-len(wanting.queue) / max(wanting.swap_cost, 1e-3)",
        "-len(wanting.queue)",
    ),
    Mutant(
        "a class rises with time",
        "queue",
        "return max(0, steps - int(steps * (now - self.since) / self.ticket.ages))",
        "return steps",
    ),
    Mutant(
        "by class within a queue",
        "queue",
        "(one.rank(now), one.since) < (best.rank(now), best.since)",
        "one.since < best.since",
    ),
    Mutant(
        "who may wake nothing wakes nothing",
        "scheduler",
        "return ticket.wake is Wake.IF_IDLE and not backend.resident",
        "return True",
    ),
    Mutant(
        "who may wake only the idle evicts nobody",
        "placing",
        "        if not backend.queue.pressing and not backend.holds:\n            world.reject_queue(backend, not_resident(backend), now)\n            return\n",
        "",
    ),
    Mutant(
        "an urgent one has a claim",
        "placing",
        "        if chosen is not None or need:\n",
        "        if chosen is not None:\n",
    ),
    Mutant(
        "who drains whom is told",
        "world",
        "        victim.wanted_by, victim.price = wanting.id, price\n",
        "        victim.price = price\n",
    ),
    Mutant(
        "who paid is told",
        "world",
        "        wanting.pays = (*wanting.pays, victim.id)\n",
        "",
    ),
    Mutant(
        "lingering is protected by the minimum residency",
        "placing",
        "(not busy and idle_at is None):\n",
        "(not busy and (need or idle_at is None)):\n",
    ),
    Mutant(
        "overdue tickets of its own are served first",
        "policy",
        "rivals_cost * ROUNDS if overdue else rivals_cost",
        "rivals_cost",
    ),
    Mutant(
        "but not for ever",
        "policy",
        "rivals_cost * ROUNDS if overdue else rivals_cost",
        "math.inf if overdue else rivals_cost",
    ),
    Mutant(
        "time alone makes somebody urgent",
        "demand",
        "    while reviews and reviews[0][0] <= now:",
        "    while False:",
    ),
    Mutant(
        "who waits for something else is looked at in his turn",
        "demand",
        "            if line in in_vain:\n                continue\n",
        "            if in_vain:\n                break\n",
    ),
    Mutant(
        "who had no place keeps his turn",
        "demand",
        "            if self._current(place[1], place[2]):\n",
        "            if False:\n",
    ),
    Mutant(
        "what was only found running says nothing of how a start would go",
        "world",
        "        if not backend.adopted:\n            backend.failure",
        "        if True:\n            backend.failure",
    ),
    Mutant(
        "what is missing may be made any moment",
        "world",
        "FIRST_BACKOFF if missing else grow(backend.backoff)",
        "grow(backend.backoff)",
    ),
    Mutant(
        "a class rises in even steps to the highest",
        "queue",
        "int(steps * (now - self.since) / self.ticket.ages)",
        "int((now - self.since) / self.ticket.ages)",
    ),
    Mutant(
        "of several one with room serves",
        "binding",
        "return backend.state is BackendState.READY and backend.room",
        "return backend.state is BackendState.READY",
    ),
    Mutant(
        "of several whichever comes up first serves",
        "books",
        "self.elsewhere.get(backend.id, {}).values()",
        "{}.values()",
    ),
    Mutant(
        "of several the next is tried when one fails",
        "books",
        "            if not self._rebind(backend, id, now):\n                self.reject",
        "            if True:\n                self.reject",
    ),
    Mutant(
        "of several a full queue is passed over",
        "binding",
        "if refusal(backend, now) is None]",
        "if True]",
    ),
    Mutant(
        "who may wake nothing starts nothing",
        "placing",
        "        if not backend.queue.waking and not backend.holds:\n",
        "        if False:\n",
    ),
    Mutant(
        "a prolonged residency ends with what prolonged it",
        "scheduler",
        "return prolonged and backend.queue.overdue_at() > now",
        "return False",
    ),
    Mutant(
        "surplus that goes already is enough",
        "placing",
        "            if backend.drain_reason is StopReason.SURPLUS and not _leaving(backend):\n",
        "            if False:\n",
    ),
    Mutant(
        "a higher class that fits doesn't wait for anybody's news",
        "scheduler",
        "not queue.pressing or ticket.priority < queue.rank(now)",
        "not queue.pressing",
    ),
    Mutant(
        "the residency counts who waits for such a place",
        "demand",
        "cost = max(cost, seconds / capacity[name])",
        "cost = max(cost, seconds)",
    ),
    Mutant(
        "who waits their turn is work too",
        "backend",
        "count = self.holding + len(self.queue)",
        "count = self.holding",
    ),
    Mutant(
        "the desperate don't wait for a residency",
        "policy",
        "return wanting.queue.half_time()",
        "return math.inf",
    ),
    Mutant(
        "time alone makes somebody desperate",
        "demand",
        "turns = (self._policy.urgent_at(backend), self._policy.desperate_at(backend))",
        "turns = (self._policy.urgent_at(backend),)",
    ),
]
