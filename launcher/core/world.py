"""What may be done to a backend: verbs that keep the books and emit effects.

Verbs don't decide. They are called by the scheduler (what an event means) and by `placing`
(who gets a place).
"""

from __future__ import annotations

import math

from launcher.core.backend import Backend
from launcher.core.books import SOFT, Books
from launcher.core.effects import Abort, Adopt, AskBusy, Deed, Replace, Start, Stop
from launcher.core.lifecycle import Cause, move
from launcher.core.policy import Need
from launcher.core.refusal import removed
from launcher.core.types import BackendState, Failure, StopReason

#: Seconds that a start may overrun its deadline before the scheduler itself ends it.
START_MARGIN = 5.0
#: The least time in which something found running has to become ready.
ADOPT_FLOOR = 30.0
#: Seconds between two questions whether a backend still has work of its own.
ASK_INTERVAL = 10.0
#: Seconds after which cut exchanges that didn't let go no longer stop a stop.
CUT_GRACE = 5.0
FIRST_BACKOFF = 1.0
LAST_BACKOFF = 300.0


class World(Books):
    """The books, and what may be done to the backends in them."""

    def _move(self, backend: Backend, cause: Cause, now: float) -> None:
        backend.state = move(backend.state, cause)
        backend.epoch += 1
        backend.since = now
        self.demand.changed(backend)
        if backend.resident:
            self.residents[backend.id] = backend
        else:
            self.residents.pop(backend.id, None)
        self.review_claim(backend)

    def start(self, backend: Backend, why: str, now: float) -> None:
        """Begin a start; its needs are taken from now on."""
        self.decided(Deed.START, backend, why, now, backend.expected_start)
        backend.paid = bool(backend.pays)
        self._move(backend, Cause.START, now)
        placement = backend.placement = backend.spec.placements[0]
        backend.adopted = False
        backend.retry_at = None
        backend.restart_at = -math.inf
        backend.deadline = now + backend.spec.start_timeout
        self.effects.append(Start(backend.id, backend.epoch, placement, backend.deadline))

    def adopt(self, backend: Backend, instance: str | None, running_for: float, now: float) -> None:
        """Somebody else started it (or an earlier launcher): it becomes ready by its probe."""
        replaced = backend.state in (BackendState.READY, BackendState.DRAINING)
        self._forget_drain(backend)
        self.decided(Deed.START, backend, "restarted" if replaced else "found running", now)
        self._move(backend, Cause.REPLACED if replaced else Cause.ADOPT, now)
        self._mute(backend)
        backend.placement = backend.spec.placements[0]
        backend.adopted = True
        backend.instance = instance
        backend.retry_at = None
        left = backend.spec.start_timeout - running_for
        backend.deadline = now + max(left, min(ADOPT_FLOOR, backend.spec.start_timeout))
        self.effects.append(Adopt(backend.id, backend.epoch, backend.deadline))

    def ready(self, backend: Backend, instance: str, now: float) -> None:
        """It may receive requests: whoever waits for it is granted in the same breath, so that
        it carries its waiters' tickets before anybody can think of evicting it."""
        if not backend.adopted:
            backend.started_in(now - backend.since)
        self._move(backend, Cause.READY, now)
        backend.instance = instance
        backend.ready_at = backend.resident_from = now
        backend.ready_from = backend.queue.arrivals
        backend.deadline = math.inf
        self.serve(backend, now)

    def evict(
        self, victim: Backend, wanting: Backend, price: float, need: Need, now: float
    ) -> None:
        """It drains for somebody else, or goes on doing so for another. For an operator's order
        only those are served to the end who are served already."""
        if need is Need.ORDERED:
            victim.drain_from = 0
        if victim.wanted_by == wanting.id and victim.state is BackendState.DRAINING:
            return
        victim.wanted_by, victim.price = wanting.id, price
        if victim.state is BackendState.READY:
            why = "evicted"
            if victim.held(now):
                why = "ordered" if need is Need.ORDERED else "overdue"
            self.drain(victim, StopReason.EVICTED, now, why)
        else:
            victim.drain_reason = StopReason.EVICTED

    def drain(
        self, backend: Backend, reason: StopReason, now: float, why: str | None = None
    ) -> None:
        """Serve what runs and who came before, queue what comes, then stop; `settle` sees to
        the end of it."""
        if backend.state is BackendState.READY:
            self._move(backend, Cause.DRAIN, now)
            backend.drain_from = min(backend.drain_from, backend.queue.arrivals)
            if backend.in_flight or backend.spec.asks_busy:
                self.decided(Deed.DRAIN, backend, why or reason.value, now, backend.price)
        elif backend.state is not BackendState.DRAINING:
            return
        if backend.drain_reason is None or reason not in SOFT:
            backend.drain_reason = reason
        self.settle(backend, now)

    def undrain(self, backend: Backend, now: float, why: str = "no longer wanted") -> None:
        """Nobody wants its place any more: it goes on."""
        self._move(backend, Cause.UNDRAIN, now)
        self._forget_drain(backend)
        self.decided(Deed.UNDRAIN, backend, why, now)
        self.serve(backend, now)

    def settle(self, backend: Backend, now: float) -> None:
        """Stop a draining backend once nothing holds it: ask whether it has work of its own,
        cut what is left of silent tunnels, and wait for those to let go."""
        if self.closed or backend.state is not BackendState.DRAINING:
            return
        soft = backend.drain_reason in SOFT
        overrun = backend.cut_at is not None and now >= backend.cut_at + CUT_GRACE
        if backend.holding and not overrun:
            return
        if soft and backend.spec.asks_busy and backend.clear_epoch != backend.epoch:
            if backend.asked_epoch != backend.epoch and not (backend.busy and now < backend.ask_at):
                backend.asked_epoch = backend.epoch
                self.effects.append(AskBusy(backend.id, backend.epoch))
            return
        if backend.in_flight and not overrun:
            if backend.cut_at is None:
                self.cut(backend, "The connection was silent and its backend is needed.", now)
            return
        self.stop(backend, backend.drain_reason or StopReason.EVICTED, now)

    def cut(self, backend: Backend, message: str, now: float) -> None:
        """End every exchange on it; each will release its ticket."""
        backend.cut_at = now
        self.effects.append(Abort(backend.id, "backend_stopped", message))

    def stop(self, backend: Backend, reason: StopReason, now: float) -> None:
        """Begin a stop; its needs stay taken until that is confirmed. For whom it was made to go
        has paid for the place from here on."""
        self.decided(Deed.STOP, backend, reason.value, now, backend.price)
        wanting = None if backend.wanted_by is None else self.backends.get(backend.wanted_by)
        if wanting is not None and wanting.wants_place:
            self.claim(wanting, backend)
        self._move(backend, Cause.STOP, now)
        self._forget_drain(backend)
        backend.stop_reason = reason
        backend.deadline = math.inf
        backend.stop_backoff = 0.0
        self.effects.append(Stop(backend.id, backend.epoch, reason))

    def stop_as_told(self, backend: Backend, now: float) -> None:
        """An operator wants it stopped, after what runs."""
        backend.stop_due = False
        message = f"{backend.id} was stopped by an operator."
        self.reject_queue(backend, Failure("backend_stopped", message), now)
        if backend.state is BackendState.STARTING:
            self.stop(backend, StopReason.OPERATOR, now)
        else:
            self.drain(backend, StopReason.OPERATOR, now)

    def retry_stop(self, backend: Backend, now: float) -> None:
        """A stop that failed is tried again."""
        since = backend.since
        self._move(backend, Cause.RETRY_STOP, now)
        backend.since = since
        backend.stop_retry_at = None
        self.effects.append(
            Stop(backend.id, backend.epoch, backend.stop_reason or StopReason.EVICTED)
        )

    def stop_failed(self, backend: Backend, failure: Failure, now: float) -> None:
        """It keeps its needs; the stop is tried again, after 1 s at first, 5 min at last."""
        backend.stop_failure = failure
        backend.stop_backoff = grow(backend.stop_backoff)
        backend.stop_retry_at = now + backend.stop_backoff

    def stopped(self, backend: Backend, now: float) -> None:
        """A stop is confirmed: its needs are free."""
        failed = backend.failed_start
        if backend.stop_failure is None and not failed:
            backend.stopped_in(now - backend.since)
        self._move(backend, Cause.GAVE_UP if failed else Cause.STOPPED, now)
        self._forget_run(backend, now)

    def died(self, backend: Backend, now: float) -> None:
        """It no longer runs, and not by our doing. One that is leased is started again without
        anybody's asking: not over and over."""
        if backend.holds:
            lived = now - backend.ready_at
            backend.backoff = grow(0.0 if lived > LAST_BACKOFF else backend.backoff)
            backend.restart_at = now + backend.backoff
        self._move(backend, Cause.DIED, now)
        self._forget_run(backend, now)

    def _mute(self, backend: Backend) -> None:
        """What ran on it ran on something that is gone: its tickets may take their time to
        notice, but hold nothing of what is started next."""
        backend.silent.update(backend.in_flight)
        backend.mute.update(backend.in_flight)

    def start_failed(self, backend: Backend, failure: Failure, now: float) -> None:
        """Tell all who wait why, back off, and stop what may be left of the start. What was
        only found running says nothing of how a start would go: those who wait get one."""
        if not backend.adopted:
            backend.failure = failure
            backend.failed_start = True
            # To look for something that isn't there costs nothing, unless others went for it, and
            # it may be made any moment. Nobody looks for a leased one but we.
            missing = failure.code == "backend_missing" and not (backend.holds or backend.paid)
            backend.backoff = FIRST_BACKOFF if missing else grow(backend.backoff)
            backend.retry_at = now + backend.backoff
            self.reject_queue(backend, failure, now, backend.backoff)
        self.stop(backend, StopReason.FAILED_START, now)

    def replace(self, backend: Backend) -> None:
        """Nothing runs of what it was: nobody knows yet whether what it is now runs, and what
        was learned of the old one says nothing of it."""
        backend.replaced = False
        backend.estimates, backend.spreads = backend.spec.estimates, {}
        backend.failure = backend.retry_at = None
        backend.backoff = 0.0
        backend.known = False
        self.unseen[backend.id] = backend
        self.effects.append(Replace(backend.id))

    def _forget_drain(self, backend: Backend) -> None:
        backend.drain_reason = backend.wanted_by = backend.price = None
        backend.drain_from = math.inf
        backend.cut_at = None
        backend.asked_epoch = backend.clear_epoch = -1

    def _forget_run(self, backend: Backend, now: float) -> None:
        self._forget_drain(backend)
        self._mute(backend)
        backend.instance = backend.placement = backend.stop_reason = None
        backend.stop_failure = backend.stop_retry_at = None
        backend.stop_backoff = 0.0
        backend.failed_start = backend.busy = False
        if backend.replaced:
            self.replace(backend)
        if backend.removed:
            self.reject_queue(backend, removed(backend), now)
            if not backend.in_flight:
                self.forget(backend)


def grow(backoff: float) -> float:
    """The next back-off: 1 s, doubling, 5 min at most."""
    return min(LAST_BACKOFF, backoff * 2) if backoff else FIRST_BACKOFF
