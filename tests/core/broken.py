# ruff: noqa: E501 - the texts are the lines that they replace
"""Copies of the core with one rule broken each: the tests must notice every one of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from types import ModuleType

from tests.core.stage import Make

#: The modules that decide, in the order of their imports. Types and events stay shared.
MODULES = ("eviction", "backend", "world", "placing", "scheduler")


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
        text = text.replace(
            "from launcher.core import eviction", "from broken_core import eviction"
        ).replace("from launcher.core import placing", "from broken_core import placing")
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
        "            if fits(self.used, needs, world.capacity):\n                add(self.used, needs)\n                world.start(backend, now)\n            add(self.future, needs)",
        "            if True:\n                add(self.used, needs)\n                world.start(backend, now)\n            add(self.future, needs)",
    ),
    Mutant(
        "needs are kept until the stop is confirmed",
        "placing",
        "            add(self.used, backend.needs)\n            leaving",
        "            if backend.state is not BackendState.STOPPING:\n                add(self.used, backend.needs)\n            leaving",
    ),
    Mutant(
        "nothing starts before everything has been seen",
        "placing",
        "                if not backend.known:\n                    add(self.used, backend.needs)\n                    add(self.future, backend.needs)\n                continue",
        "                continue",
    ),
    Mutant(
        "arrivals join a start under way",
        "placing",
        "b.queue and b.state in _COLD",
        "b.queue and b.state in (*_COLD, BackendState.STARTING)",
    ),
    Mutant(
        "a ticket counts as in flight from its grant on",
        "world",
        "        backend.in_flight[ticket.id] = now\n",
        "        backend.in_flight.setdefault(ticket.id, now) if not cold else None\n",
    ),
    Mutant(
        "a newly ready backend carries its waiters' tickets",
        "world",
        "        self.grant_queue(backend, now, cold=True)\n",
        "",
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
        "                if not overdue:\n                    continue\n",
        "",
    ),
    Mutant(
        "the overdue do make the busy drain",
        "placing",
        "            self._give(backend, overdue=True)",
        "            self._give(backend, overdue=False)",
    ),
    Mutant(
        "minimum residency",
        "placing",
        "until = backend.ready_at + self._residency(backend)",
        "until = backend.ready_at",
    ),
    Mutant(
        "minimum residency is the sum of all who wait",
        "placing",
        "        return sum(\n            b.swap_cost",
        "        return max(\n            b.swap_cost",
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
        "(c.busy, c.last_used, c.id)",
        "(c.busy, -c.last_used, c.id)",
    ),
    Mutant(
        "nobody goes who need not",
        "eviction",
        "            chosen.remove(candidate)\n",
        "            pass\n",
    ),
    Mutant(
        "the overdue are not overtaken",
        "placing",
        "            world.drain(victim, StopReason.EVICTED, now)\n        add(self.future, needs)",
        "            world.drain(victim, StopReason.EVICTED, now)",
    ),
    Mutant(
        "idle time counts from the end of the last ticket",
        "world",
        "            backend.last_used = now\n            if ok:",
        "            if ok:",
    ),
    Mutant(
        "a ticket in flight is activity",
        "backend",
        "if self.state is not BackendState.READY or self.holding:",
        "if self.state is not BackendState.READY:",
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
        "        if ticket.quiet:\n",
        "        if ticket.quiet and state is BackendState.STARTING:\n",
    ),
    Mutant(
        "quiet requests keep nothing",
        "world",
        "        if ticket.quiet:\n            backend.silent.add(ticket.id)",
        "        if ticket.quiet:\n            backend.silent.discard(ticket.id)",
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
        "if backend.drain_reason is StopReason.IDLE and not backend.queue:",
        "if backend.drain_reason is StopReason.IDLE:",
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
        "        self.reject_queue(backend, failure, backend.backoff)\n",
        "",
    ),
    Mutant(
        "back-off refuses at once",
        "scheduler",
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
        "world",
        "            backend.backoff = 0.0\n            backend.failure = None\n",
        "            pass\n",
    ),
    Mutant(
        "an operator clears the back-off",
        "scheduler",
        "        if ticket.operator:\n            backend.retry_at = None\n",
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
        "scheduler",
        "if len(backend.queue) >= backend.spec.max_queue:",
        "if len(backend.queue) < 0:",
    ),
    Mutant(
        "a wait ends at its deadline",
        "scheduler",
        '                world.reject(waiting, ticket, Failure("queue_timeout", message))\n',
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
        "scheduler",
        "        if backend.stop_failure is not None:\n            return stuck(backend), None\n",
        "",
    ),
    Mutant(
        "an engine that is away is told at once",
        "scheduler",
        "        if backend.unreachable is not None and backend.state not in _UP:\n            return backend.unreachable, None\n",
        "",
    ),
    Mutant(
        "who can't be stopped is not evicted",
        "placing",
        "if backend.state is not BackendState.READY or backend.unreachable is not None:",
        "if backend.state is not BackendState.READY:",
    ),
    Mutant(
        "nobody waits for the place of who can't be stopped",
        "placing",
        "unstoppable = other.state in _UP and other.unreachable is not None",
        "unstoppable = False",
    ),
    Mutant(
        "surplus that can't be stopped stays",
        "placing",
        "if b.state is BackendState.READY and not b.held(now) and b.unreachable is None",
        "if b.state is BackendState.READY and not b.held(now)",
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
        "scheduler",
        "            if force:\n                world.cut(backend, message, now)\n",
        "",
    ),
    Mutant(
        "a closing launcher refuses",
        "scheduler",
        "        world.closed = True\n",
        "",
    ),
]
