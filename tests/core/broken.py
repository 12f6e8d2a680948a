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
    "queue",
    "backend",
    "policy",
    "binding",
    "demand",
    "state",
    "placement",
    "permits",
    "forecast",
    "dry_run",
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
        for import_ in ("binding, permits",):
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
        "placement",
        '            if fits(self.used, needs, sched.capacity):\n                add(self.used, needs)\n                sched.start(backend, "wanted" if backend.queue else "leased", now)\n',
        '            if True:\n                add(self.used, needs)\n                sched.start(backend, "wanted" if backend.queue else "leased", now)\n',
    ),
    Mutant(
        "needs are kept until the stop is confirmed",
        "placement",
        "            add(self.used, backend.needs)\n            if not _leaving",
        "            if backend.state is not BackendState.STOPPING:\n                add(self.used, backend.needs)\n            if not _leaving",
    ),
    Mutant(
        "nothing starts before everything has been seen",
        "placement",
        "        for backend in sched.unseen.values():\n",
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
        "state",
        "            self._hold(backend, ticket.id, now)\n",
        "            None if cold else self._hold(backend, ticket.id, now)\n",
    ),
    Mutant(
        "a newly ready backend carries its waiters' tickets",
        "state",
        "        backend.deadline = math.inf\n        self.serve(backend, now)\n",
        "        backend.deadline = math.inf\n",
    ),
    Mutant(
        "nobody is stopped under a request",
        "state",
        "        if backend.holding and not overrun:\n            return\n",
        "",
    ),
    Mutant(
        "the busy drain only for the overdue",
        "placement",
        "        until = math.inf\n        if urgency:\n",
        "        until = math.inf\n        if True:\n",
    ),
    Mutant(
        "the overdue do make the busy drain",
        "placement",
        "self._give(backend, urgency)",
        "self._give(backend, Urgency.PATIENT)",
    ),
    Mutant(
        "minimum residency",
        "placement",
        "until = backend.resident_from + self.policy.residency(cost, overdue=overdue)",
        "until = backend.resident_from",
    ),
    Mutant(
        "minimum residency is the sum of all who wait",
        "demand",
        "cost + units * entry.cost",
        "max(cost, units * entry.cost)",
    ),
    Mutant(
        "a drain ends when those it was for leave",
        "placement",
        "                self.sched.undrain(backend, self.now)\n",
        "                pass\n",
    ),
    Mutant(
        "the least recently used goes first",
        "placement",
        "(c.price, c.last_used, c.id)",
        "(c.price, -c.last_used, c.id)",
    ),
    Mutant(
        "nobody goes who need not",
        "placement",
        "            kept.remove(candidate)\n",
        "            pass\n",
    ),
    Mutant(
        "the overdue are not overtaken",
        "placement",
        "        if chosen is not None or urgency:\n",
        "        if chosen is None:\n",
    ),
    Mutant(
        "idle time counts from the end of the last ticket",
        "state",
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
        "state",
        "            backend.silent.add(ticket.id)\n            backend.mute",
        "            backend.silent.discard(ticket.id)\n            backend.mute",
    ),
    Mutant(
        "a backend with work of its own is asked before an eviction",
        "state",
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
        "placement",
        "(reason is StopReason.IDLE and not backend.queue)",
        "reason is StopReason.IDLE",
    ),
    Mutant(
        "what ran on something dead holds nothing",
        "state",
        "        backend.silent.update(backend.in_flight)\n",
        "",
    ),
    Mutant(
        "a failed start tells all who wait",
        "state",
        "        self.reject_queue(backend, failure, now, backend.backoff)\n",
        "",
    ),
    Mutant(
        "back-off refuses at once",
        "binding",
        "if backend.retry_at is not None and now < backend.retry_at and",
        "if backend.retry_at is not None and now < 0 and",
    ),
    Mutant(
        "the back-off doubles",
        "state",
        "return min(LAST_BACKOFF, backoff * 2) if backoff else FIRST_BACKOFF",
        "return FIRST_BACKOFF",
    ),
    Mutant(
        "the back-off ends at five minutes",
        "state",
        "return min(LAST_BACKOFF, backoff * 2) if backoff else FIRST_BACKOFF",
        "return backoff * 2 if backoff else FIRST_BACKOFF",
    ),
    Mutant(
        "a good exchange resets the back-off",
        "state",
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
        "state",
        "        self.stop(backend, StopReason.FAILED_START, now)\n",
        "        backend.state = BackendState.FAILED\n        backend.epoch += 1\n",
    ),
    Mutant(
        "queues are bounded",
        "binding",
        "if len(backend.queue) >= backend.spec.max_queue and not ordered:",
        "if len(backend.queue) < 0:",
    ),
    Mutant(
        "a wait ends at its deadline",
        "scheduler",
        '                sched.reject(waiting, ticket, Failure("queue_timeout", message), now)\n',
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
        "        if event.epoch != backend.epoch:\n            sched.effects.append(Inspect(backend.id))\n            return False\n",
        "",
    ),
    Mutant(
        "what runs is adopted",
        "scheduler",
        "elif not backend.resident and event.running and not sched.closed:",
        "elif not backend.resident and event.running and sched.closed:",
    ),
    Mutant(
        "a death is believed",
        "scheduler",
        "                sched.died(backend, now)\n                return True\n",
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
        "placement",
        "                sched.drain(backend, StopReason.SURPLUS, now)\n",
        "                pass\n",
    ),
    Mutant(
        "prewarmed surplus goes last",
        "placement",
        "(b.spec.prewarm is not None, b.used_at, b.id)",
        "(b.spec.prewarm is None, b.used_at, b.id)",
    ),
    Mutant(
        "prewarm keeps its order",
        "placement",
        "key=lambda b: (b.spec.prewarm or 0, b.id)",
        "key=lambda b: b.id",
    ),
    Mutant(
        "a stop that fails is retried",
        "scheduler",
        "                sched.retry_stop(backend, now)\n",
        "                pass\n",
    ),
    Mutant(
        "those who wait for a stuck backend are told",
        "binding",
        "    if backend.stop_failure is not None:\n        return stuck(backend), None\n",
        "",
    ),
    Mutant(
        "an engine that is away is told at once",
        "binding",
        "    if backend.unreachable is not None and backend.state not in _UP:\n        return backend.unreachable, None\n",
        "",
    ),
    Mutant(
        "who can't be stopped is not evicted",
        "placement",
        "            if backend.unreachable is not None or backend.holds:\n                continue\n",
        "            if backend.holds:\n                continue\n",
    ),
    Mutant(
        "nobody waits for the place of who can't be stopped",
        "placement",
        "if stuck or (backend.state in _UP and backend.unreachable is not None):",
        "if stuck:",
    ),
    Mutant(
        "surplus that can't be stopped stays",
        "placement",
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
        "                    sched.undrain(backend, now)\n        return True\n",
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
        '        sched.cut(backend, f"{id} no longer answers and is started anew.", now)\n',
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
        '            sched.cut(backend, f"{id} was stopped by an operator.", now)\n',
        "            pass\n",
    ),
    Mutant(
        "a closing launcher refuses",
        "scheduler",
        "    sched.closed = True\n",
        "    pass\n",
    ),
    Mutant(
        "so many at a time",
        "state",
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
        "        if backend.queue or sched.elsewhere:\n            sched.serve(backend, now)\n",
        "",
    ),
    Mutant(
        "a drain serves who came before it",
        "state",
        "            until = backend.drain_from\n",
        "            return\n",
    ),
    Mutant(
        "a drain serves nobody who came later",
        "state",
        "            until = backend.drain_from\n",
        "            pass\n",
    ),
    Mutant(
        "a tunnel fallen silent gives its turn away",
        "scheduler",
        "            backend.silent.add(event.ticket)\n            self._state.serve(backend, now)\n",
        "            backend.silent.add(event.ticket)\n",
    ),
    Mutant(
        "an idle one lingers",
        "placement",
        "            until = min(until, idle_at + self.policy.linger(backend, tickets))\n",
        "            return True\n",
    ),
    Mutant(
        "lingering ends when somebody is urgent",
        "placement",
        "        if urgency:\n            overdue",
        "        if urgency and busy:\n            overdue",
    ),
    Mutant(
        "lingering is learned",
        "backend",
        "        return best * SLACK",
        "        return UNKNOWN",
    ),
    Mutant(
        "lingering counts those who wait",
        "backend",
        "price = waiting * (below",
        "price = (below",
    ),
    Mutant(
        "gaps count from falling idle",
        "state",
        "                backend.arrival_stats.fell_idle(now)\n        if ticket in backend.mute:",
        "                pass\n        if ticket in backend.mute:",
    ),
    Mutant(
        "lingering has a bound of its own",
        "policy",
        "return min(idle.spec.linger, idle.arrival_stats",
        "return max(0.0, idle.arrival_stats",
    ),
    Mutant(
        "lingering can be turned off",
        "policy",
        "        if idle.spec.linger <= 0:\n            return 0.0\n        return min(idle.spec.linger, idle.arrival_stats",
        "        return max(0.0, idle.arrival_stats",
    ),
    Mutant(
        "what loads slowly is spared",
        "placement",
        "return backend.swap_cost * wanted",
        "return wanted",
    ),
    Mutant(
        "who is wanted soon is spared",
        "placement",
        "wanted = backend.arrival_stats.wanted(SOON, self.now)",
        "wanted = 1.0",
    ),
    Mutant(
        "who hasn't been asked for long is spared less",
        "backend",
        "every = max(self._every or 0.0, now - self._last)",
        "every = self._every or 60.0",
    ),
    Mutant(
        "work that has to be waited for has a price",
        "placement",
        "return backend.swap_cost + backend.work",
        "return 0.0",
    ),
    Mutant(
        "one that is going is chosen anew each time",
        "placement",
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
        "placement",
        "        if not backend.queue.pressing and not backend.holds:\n            sched.reject_queue(backend, not_resident(backend), now)\n            return\n",
        "",
    ),
    Mutant(
        "an urgent one has a claim",
        "placement",
        "        if chosen is not None or urgency:\n",
        "        if chosen is not None:\n",
    ),
    Mutant(
        "who drains whom is told",
        "state",
        "        victim.wanted_by, victim.price = wanting.id, price\n",
        "        victim.price = price\n",
    ),
    Mutant(
        "who paid is told, once",
        "state",
        "        if victim.id not in backend.pays:\n",
        "        if True:\n",
    ),
    Mutant(
        "a stop gives a claim on the place",
        "state",
        "            self.claim(wanting, backend)\n",
        "            pass\n",
    ),
    Mutant(
        "a stop for nobody gives no claim",
        "state",
        "if wanting is not None and wanting.wants_place:",
        "if wanting is not None:",
    ),
    Mutant(
        "who has paid goes before every class",
        "policy",
        "    if wanting.pays:\n",
        "    if False:\n",
    ),
    Mutant(
        "who has paid stays behind an order",
        "policy",
        "        return (1.0, wanting.claim)\n",
        "        return (-1.0, wanting.claim)\n",
    ),
    Mutant(
        "who paid first goes first",
        "policy",
        "        return (1.0, wanting.claim)\n",
        "        return (1.0, *policy.rank(wanting, now))\n",
    ),
    Mutant(
        "a claim on a place that is lost is none",
        "placement",
        "            sched.unclaim(backend)\n            self._wake_at(sched.demand.review(now))\n            return\n",
        "            pass\n",
    ),
    Mutant(
        "a part of a place is kept while the rest is made",
        "placement",
        "and not self._drained_for(backend):\n",
        "and True:\n",
    ),
    Mutant(
        "who wants no place has no claim",
        "state",
        "        if not backend.wants_place:\n            self.unclaim(backend)\n",
        "        if backend.resident:\n            self.unclaim(backend)\n",
    ),
    Mutant(
        "who may stop nobody has no claim",
        "backend",
        "(self.queue.pressing or bool(self.holds))",
        "(bool(self.queue) or bool(self.holds))",
    ),
    Mutant(
        "a place is had once",
        "state",
        "            self.residents.pop(backend.id, None)\n        self.review_claim(backend)\n",
        "            self.residents.pop(backend.id, None)\n",
    ),
    Mutant(
        "whom a lease leaves no place has no claim",
        "backend",
        "here = self.resident or self.blocked",
        "here = self.resident",
    ),
    Mutant(
        "lingering is protected by the minimum residency",
        "placement",
        "(not busy and idle_at is None):\n",
        "(not busy and (urgency or idle_at is None)):\n",
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
        "state",
        "        if not backend.adopted:\n            backend.failure",
        "        if True:\n            backend.failure",
    ),
    Mutant(
        "what is missing may be made any moment",
        "state",
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
        "state",
        "self.elsewhere.get(backend.id, {}).values()",
        "{}.values()",
    ),
    Mutant(
        "of several the next is tried when one fails",
        "state",
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
        "placement",
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
        "placement",
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
    Mutant(
        "a lease's time runs from its grant",
        "state",
        "until = now + hold.ttl if hold.until is None else hold.until",
        "until = hold.ttl if hold.until is None else hold.until",
    ),
    Mutant(
        "a lease ends",
        "scheduler",
        "            sched.expire(now)\n            again = True\n",
        "            pass\n",
    ),
    Mutant(
        "somebody wakes for a lease's end",
        "placement",
        "        self._due(sched.leases.next_end)\n",
        "",
    ),
    Mutant(
        "the end of a lease is of use to others",
        "scheduler",
        "            sched.expire(now)\n            again = True\n",
        "            sched.expire(now)\n",
    ),
    Mutant(
        "a lease let go is of use to others",
        "scheduler",
        "            sched.end_lease(backend, ticket, now)\n            return True\n",
        "            sched.end_lease(backend, ticket, now)\n            return False\n",
    ),
    Mutant(
        "no eviction of what is leased",
        "placement",
        "            if backend.unreachable is not None or backend.holds:\n                continue\n",
        "            if backend.unreachable is not None:\n                continue\n",
    ),
    Mutant(
        "no idle stop of what is leased",
        "backend",
        "self.state is not BackendState.READY or self.holding or self.holds:",
        "self.state is not BackendState.READY or self.holding:",
    ),
    Mutant(
        "surplus is not what is leased",
        "placement",
        "            and not (b.held(now) or b.holds)\n",
        "            and not b.held(now)\n",
    ),
    Mutant(
        "idle time counts from the end of a lease",
        "state",
        "        del self.tickets[ticket]\n        backend.last_used = now\n",
        "        del self.tickets[ticket]\n",
    ),
    Mutant(
        "a lease takes no turn",
        "state",
        "        if backend.queue.leases and backend.state is BackendState.READY:\n",
        "        if backend.room and backend.queue.leases and backend.state is BackendState.READY:\n",
    ),
    Mutant(
        "a lease is granted however full it is",
        "scheduler",
        "here and (hold is not None or backend.room)",
        "here and backend.room",
    ),
    Mutant(
        "a lease says nothing of traffic",
        "scheduler",
        "        if ticket.hold is None:\n            backend.arrival_stats.arrived(now)\n",
        "        backend.arrival_stats.arrived(now)\n",
    ),
    Mutant(
        "a lease taken back says nothing of traffic",
        "state",
        "and not backend.queue and lease is None:",
        "and not backend.queue:",
    ),
    Mutant(
        "the impatient are told of a lease",
        "scheduler",
        "ticket.on_lease is OnLease.REJECT and state not in _HERE",
        "False",
    ),
    Mutant(
        "the impatient who wait are told of a lease",
        "placement",
        "if ticket.urgent or ticket.hold or ticket.on_lease is OnLease.REJECT:",
        "if ticket.urgent or ticket.hold:",
    ),
    Mutant(
        "orders that wait are told of a lease",
        "placement",
        "if ticket.urgent or ticket.hold or ticket.on_lease is OnLease.REJECT:",
        "if ticket.on_lease is OnLease.REJECT:",
    ),
    Mutant(
        "those who are told of a lease know its end",
        "state",
        "wait if 0 < wait < math.inf else None",
        "None",
    ),
    Mutant(
        "a pin has no end to be told",
        "state",
        "wait if 0 < wait < math.inf else None",
        "wait",
    ),
    Mutant(
        "enough leases have to end",
        "state",
        "at = others.pop(0).leased_until",
        "at = others.pop().leased_until",
    ),
    Mutant(
        "who is up is served beside a lease",
        "scheduler",
        "ticket.on_lease is OnLease.REJECT and state not in _HERE",
        "ticket.on_lease is OnLease.REJECT",
    ),
    Mutant(
        "who waits for a lease's end stands in no line",
        "demand",
        "        if backend.blocked:\n            self._blocked[backend.id] = backend\n            return\n",
        "        if backend.blocked:\n            self._blocked[backend.id] = backend\n",
    ),
    Mutant(
        "who waits for a lease's end may have another backend",
        "placement",
        "                if sched.rebind_blocked(backend, ticket.id, now):\n                    continue\n",
        "",
    ),
    Mutant(
        "of several one that leases leave a place",
        "binding",
        "next((b for b in open_ if not b.blocked), open_[0] if open_ else choice[0])",
        "open_[0] if open_ else choice[0]",
    ),
    Mutant(
        "who may wake nothing doesn't wait for a lease",
        "placement",
        "            if not backend.queue.pressing:\n                sched.reject_queue(backend, not_resident(backend), now)\n\n",
        "\n",
    ),
    Mutant(
        "leases fit together",
        "scheduler",
        "or not sched.leases.in_the_way(other, coming)",
        "or True",
    ),
    Mutant(
        "a lease that waits counts too",
        "scheduler",
        "coming = [other for other in sched.queues.values() if other.queue.leases]",
        "coming: list[Backend] = []",
    ),
    Mutant(
        "its own lease is in nobody's way",
        "state",
        "for one in (*coming, *self) if one is not backend}",
        "for one in (*coming, *self)}",
    ),
    Mutant(
        "a switch is not blocked where it is up",
        "scheduler",
        "(hold is None and other.state in _HERE)",
        "False",
    ),
    Mutant(
        "what is leased and died is started again",
        "placement",
        "            else:\n                self._give(backend, Urgency.ORDERED)\n",
        "            else:\n                pass\n",
    ),
    Mutant(
        "what is leased and died is not started over and over",
        "state",
        "            backend.restart_at = now + backend.backoff\n",
        "",
    ),
    Mutant(
        "what is leased and died waits for nobody who asks",
        "placement",
        "elif again_at > now and not backend.queue:",
        "elif again_at > now:",
    ),
    Mutant(
        "what had run for long begins anew",
        "state",
        "grow(0.0 if lived > LAST_BACKOFF else backend.backoff)",
        "grow(backend.backoff)",
    ),
    Mutant(
        "what is leased and missing is looked for ever less often",
        "state",
        "not (backend.holds or backend.paid)",
        "not backend.paid",
    ),
    Mutant(
        "nobody is stopped again and again for what is missing",
        "state",
        "not (backend.holds or backend.paid)",
        "not backend.holds",
    ),
    Mutant(
        "the place of what is leased and failed is kept",
        "placement",
        "            elif again_at > now and not backend.queue:\n                add(self.future, backend.wanted_needs)\n",
        "            elif again_at > now and not backend.queue:\n",
    ),
    Mutant(
        "nothing starts while its engine is away",
        "placement",
        "elif backend.unreachable is not None or self._hopeless(backend):",
        "elif self._hopeless(backend):",
    ),
    Mutant(
        "a lease of an earlier run is in force at once",
        "scheduler",
        "        if hold is not None and hold.until is not None and not backend.removed:\n",
        "        if False:\n",
    ),
    Mutant(
        "a lease of an earlier run ends when it would have",
        "state",
        "until = now + hold.ttl if hold.until is None else hold.until",
        "until = now + hold.ttl",
    ),
    Mutant(
        "a lease of an earlier run ends a drain",
        "scheduler",
        "            if backend.drain_reason in SOFT:\n",
        "            if False:\n",
    ),
    Mutant(
        "a renewal counts",
        "scheduler",
        "    sched.leases.set(backend, ticket, until)\n",
        "    pass\n",
    ),
    Mutant(
        "a renewal into the past ends it at once",
        "state",
        "        backend.holds[ticket] = until\n        self._leased[backend.id] = backend\n        self._look_ahead()\n",
        "        backend.holds[ticket] = until\n        self._leased[backend.id] = backend\n        self.next_end = min(self.next_end, until) if until > self.next_end else self.next_end\n",
    ),
    Mutant(
        "a stop waits for the end of a lease",
        "scheduler",
        "    if backend.holds and not force:\n        backend.stop_due = True\n        return False\n",
        "",
    ),
    Mutant(
        "a stop that waited is carried out",
        "placement",
        "                sched.stop_as_told(backend, now)\n",
        "                pass\n",
    ),
    Mutant(
        "another order calls a stop off",
        "scheduler",
        "        backend = binding.choose(choice, now)\n        backend.stop_due = False\n",
        "        backend = binding.choose(choice, now)\n",
    ),
    Mutant(
        "a start calls a stop off",
        "scheduler",
        "        if ticket.operator:\n            backend.stop_due = False\n",
        "",
    ),
    Mutant(
        "a stop that waits ends with what it was for",
        "state",
        "        if backend.state not in (BackendState.STARTING, BackendState.READY):\n            backend.stop_due = False\n",
        "",
    ),
    Mutant(
        "force breaks a lease",
        "scheduler",
        "        sched.break_leases(backend, now)\n        if backend.state in _UP:",
        "        if backend.state in _UP:",
    ),
    Mutant(
        "what was broken is told so",
        "state",
        "Expired(ticket, backend.id, broken=True)",
        "Expired(ticket, backend.id)",
    ),
    Mutant(
        "what an operator orders makes the busy drain",
        "policy",
        "    if wanting.queue.order is not None:\n        return Urgency.ORDERED\n",
        "",
    ),
    Mutant(
        "what an operator orders goes first",
        "policy",
        "        return (0.0, *order)\n",
        "        return (2.0, *order)\n",
    ),
    Mutant(
        "orders come in their order",
        "policy",
        "        return (0.0, *order)\n",
        "        return (0.0, -order[0])\n",
    ),
    Mutant(
        "what an operator orders is served first",
        "queue",
        "            if one.number <= until:\n                return one\n",
        "            if False:\n                return one\n",
    ),
    Mutant(
        "for an order nobody who only waits is served",
        "state",
        "            victim.drain_from = 0\n",
        "            pass\n",
    ),
    Mutant(
        "an earlier order is not undone by a later one",
        "placement",
        "return theirs is None or mine < theirs",
        "return False",
    ),
    Mutant(
        "a later order does not undo an earlier one",
        "placement",
        "return theirs is None or mine < theirs",
        "return True",
    ),
    Mutant(
        "an order that is served stays for a while",
        "state",
        "        if ticket.urgent:\n            backend.resident_from = now\n",
        "",
    ),
    Mutant(
        "an order clears a back-off",
        "scheduler",
        "if ticket.operator or ticket.urgent:",
        "if ticket.operator:",
    ),
    Mutant(
        "a full queue takes an order",
        "binding",
        "len(backend.queue) >= backend.spec.max_queue and not ordered:",
        "len(backend.queue) >= backend.spec.max_queue:",
    ),
    Mutant(
        "an order taken back is news",
        "scheduler",
        "            ordered\n            or not backend.queue.pressing\n",
        "            not backend.queue.pressing\n",
    ),
    Mutant(
        "an order is news",
        "scheduler",
        "news = ordered or not queue.pressing",
        "news = not queue.pressing",
    ),
    Mutant(
        "a drained backend refuses",
        "binding",
        "    if backend.drained:\n        return drained(backend), None\n",
        "",
    ),
    Mutant(
        "a drained backend refuses though it is ready",
        "scheduler",
        "        if state is BackendState.READY and not backend.drained:\n",
        "        if state is BackendState.READY:\n",
    ),
    Mutant(
        "a drained backend refuses an order though it is ready",
        "scheduler",
        "here = backend.state is BackendState.READY and not backend.drained",
        "here = backend.state is BackendState.READY",
    ),
    Mutant(
        "a drain of everything is one of what is added too",
        "scheduler",
        "        sched.drain_new = on\n",
        "        pass\n",
    ),
    Mutant(
        "what is replaced drains",
        "scheduler",
        "        sched.drain(backend, StopReason.REPLACED, now)\n",
        "        pass\n",
    ),
    Mutant(
        "what starts is replaced at once",
        "scheduler",
        "        sched.stop(backend, StopReason.REPLACED, now)\n",
        "        pass\n",
    ),
    Mutant(
        "what has ended is replaced",
        "state",
        "        if backend.replaced:\n            self.replace(backend)\n",
        "",
    ),
    Mutant(
        "what replaces another may be running",
        "state",
        "        backend.known = False\n        self.unseen[backend.id] = backend\n",
        "",
    ),
    Mutant(
        "what was learned of the old one is forgotten",
        "state",
        "        backend.estimates, backend.spreads = backend.spec.estimates, {}\n",
        "",
    ),
    Mutant(
        "the old one's failures are forgotten",
        "state",
        "        backend.failure = backend.retry_at = None\n        backend.backoff = 0.0\n        backend.known",
        "        backend.known",
    ),
    Mutant(
        "a replacement taken back restarts nothing",
        "scheduler",
        "    if going and backend.cut_at is None:\n        sched.undrain",
        "    if False:\n        sched.undrain",
    ),
    Mutant(
        "a replacement taken back is none",
        "scheduler",
        "    backend.removed = backend.replaced = False\n",
        "    backend.removed = False\n",
    ),
    Mutant(
        "a removed backend's leases are broken",
        "scheduler",
        "    sched.break_leases(backend, now)\n    backend.removed = True\n",
        "    backend.removed = True\n",
    ),
    Mutant(
        "what is removed takes nobody",
        "binding",
        "    if backend.removed:\n        return removed(backend), None\n",
        "",
    ),
    Mutant(
        "a name is used again, an epoch isn't",
        "state",
        "        self.first_epoch = max(self.first_epoch, backend.epoch + 1)\n",
        "",
    ),
    Mutant(
        "another capacity counts",
        "scheduler",
        "        sched.capacity.update(event.capacity)\n",
        "        sched.capacity.update(sched.capacity)\n",
    ),
    Mutant(
        "another capacity may free the way of a lease",
        "scheduler",
        "    sched.review_leases()\n",
        "",
    ),
    Mutant(
        "other needs count at once",
        "scheduler",
        "        backend.placement = spec.placements[0]\n",
        "        pass\n",
    ),
    Mutant(
        "a lease outlives the launcher's end",
        "scheduler",
        "if now >= sched.leases.next_end and not sched.closed:",
        "if now >= sched.leases.next_end:",
    ),
]
