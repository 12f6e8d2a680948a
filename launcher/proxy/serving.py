"""A resolved request: admitted through the gate, forwarded, sent again where that is right.

It must not know how the route was found or how errors are written.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Final

from launcher.auth.access import Caller
from launcher.auth.browsers import only_pointed_at, same_origin
from launcher.config import LauncherConfig, RouteConfig
from launcher.errors import LauncherError
from launcher.http.exchange import Exchange, RawHeaders, RequestHead
from launcher.proxy.body import KeptBody, asks_for_stream
from launcher.proxy.forward import forward
from launcher.proxy.headers import wanted_upgrade
from launcher.proxy.heartbeat import INTERVAL, HeartbeatExchange, comment, dialect_of
from launcher.proxy.plan import Carried, Plan, UpstreamFailed
from launcher.proxy.pool import UpstreamPool
from launcher.proxy.resolve import Resolver
from launcher.proxy.resolved import Resolved
from launcher.proxy.timing import timing_headers
from launcher.proxy.waiting import Guest, WaitingRoom, opens_a_page
from launcher.proxy.wishes import wishes
from launcher.runtime.admission import Admission, Admitter, Ask, Grant, ask_for
from launcher.telemetry.record import ExchangeRecord

#: RFC 9110 §9.2.2.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})

#: Inference that leaves nothing behind: asked twice, it answers twice, and that is all.
_STATELESS: Final = (
    b"/chat/completions",
    b"/completions",
    b"/completion",
    b"/embeddings",
    b"/embedding",
    b"/embed",
    b"/messages",
    b"/messages/count_tokens",
    b"/rerank",
    b"/score",
    b"/pooling",
    b"/classify",
    b"/moderations",
    b"/infill",
    b"/generate",
    b"/tokenize",
    b"/detokenize",
    b"/audio/speech",
    b"/audio/transcriptions",
    b"/audio/translations",
    b"/images/generations",
    b"/images/edits",
    b"/images/variations",
)


class Visit:
    """One request on its way through: what was received, and where its answer goes."""

    def __init__(self, exchange: Exchange, record: ExchangeRecord, caller: Caller) -> None:
        self.exchange = exchange
        self.record = record
        self.caller = caller
        self.found: Resolved | None = None
        self.answer: Exchange = exchange
        """Where to respond; from the first heartbeat on, something that knows of it."""
        self.heart: HeartbeatExchange | None = None
        self.elsewhere: Callable[[], object] = tuple
        """True where the latest configuration leads it to other backends."""


class Serving:
    """Carries visits whose route is known."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: Admitter,
        pool: UpstreamPool,
        resolver: Resolver,
        waiting: WaitingRoom,
    ) -> None:
        self._gate = gate
        self._waiting = waiting
        self._pool = pool
        self._resolver = resolver
        self._config = config
        self._trusted = Trusted(config.trusted_proxies)

    async def serve(self, visit: Visit, found: Resolved) -> None:
        """To the end of the response. Raises LauncherError, ClientGone."""
        # Known to be refused later: nothing is started for it.
        wanted_upgrade(visit.exchange.head)
        ask = self._ask(visit, found)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ask.queue_timeout
        again = False
        while not await self._once(visit, found, ask, again=again):
            again = visit.record.retried = True
            ask = ask._replace(queue_timeout=max(0.0, deadline - loop.time()))

    def _ask(self, visit: Visit, found: Resolved) -> Ask:
        """What is asked of the gate: as the key or else the route says, or meeker where the
        request says so."""
        route, key = found.first, visit.caller.key
        priority, wake = route.priority, route.wake
        if key is not None:
            priority = priority if key.priority is None else key.priority
            wake = wake if key.wake is None else key.wake
        priority, wake = wishes(visit.exchange.head, priority, wake)
        ask = ask_for(self._config, route, backends=found.backends, priority=priority, wake=wake)
        strange = key is None and not route.public and only_pointed_at(visit.exchange.head)
        if strange or _is_quiet(found):
            return ask._replace(quiet=True)
        return ask

    async def _once(self, visit: Visit, found: Resolved, ask: Ask, *, again: bool) -> bool:
        """Ask for a place and use it; False where it has to be done once more."""
        record = visit.record
        with ExitStack() as held:
            if not ask.quiet and not found.asked and opened_by_own_page(visit.exchange.head):
                # Held besides the place proper: it is refused where that would wake somebody.
                first = held.enter_context(self._gate.admit(Ask(ask.backends, quiet=True)))
                if first.grant is None:
                    await first.granted()
            admission = held.enter_context(self._gate.admit(ask))
            grant = admission.grant or await self._awaited(admission, visit, found, held)
            if grant is None:
                return True
            found.settle(grant.backend)
            record.route, record.backend = found.route.name, grant.backend
            record.cold = record.cold or grant.cold
            record.queued += grant.queued
            record.starting += grant.starting
            with Cut() as cut:
                admission.on_abort = cut
                if found.keep_later:
                    found.body = await self._resolver.keep(visit.exchange)
                    found.keep_later = False
                began = asyncio.get_running_loop().time()
                try:
                    carried = await self._forward(visit, found, grant, admission)
                except UpstreamFailed as failed:
                    may = await self._may_try_again(failed, grant, found.route, began)
                    if again or not may:
                        raise _unserved(failed, grant) from failed
                    return False
                self._note(record, carried)
                admission.ok = carried.complete and carried.status < 500
        return True

    async def _awaited(
        self, admission: Admission, visit: Visit, found: Resolved, held: ExitStack
    ) -> Grant | None:
        """Wait as the client can; None where that was a browser, which looks at a page now."""
        if opens_a_page(visit.exchange.head, found):
            guest = Guest(
                visit.exchange,
                visit.record,
                found.first.name,
                found.backends,
                details=visit.caller.sees_details(),
                elsewhere=visit.elsewhere,
            )
            return await self._waiting.receive(guest, admission, held)
        return await self._granted(admission, visit, found)

    async def _granted(self, admission: Admission, visit: Visit, found: Resolved) -> Grant:
        """Wait, with heartbeats where the client asked for a stream."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        every = found.first.heartbeat
        try:
            if not every or not await self._streams(visit, found):
                return await admission.granted()
            due = visit.exchange.received_at + every
            while True:
                try:
                    async with asyncio.timeout_at(due):
                        return await admission.granted()
                except TimeoutError:
                    await self._beat(admission, visit, found)
                due = loop.time() + min(every, INTERVAL)
        except LauncherError:
            visit.record.queued += loop.time() - asked
            visit.record.starting += admission.starting
            visit.record.cold = visit.record.cold or admission.starting > 0.0
            raise

    async def _beat(self, admission: Admission, visit: Visit, found: Resolved) -> None:
        progress = admission.progress()
        name = found.asked or progress.backend
        if visit.heart is None:
            visit.heart = HeartbeatExchange(visit.exchange, dialect_of(found.path))
            visit.answer = visit.heart
        cold = ((b"X-Launcher-Cold-Start", b"1"),) if progress.cold else ()
        await visit.heart.beat(comment(progress, name), cold)

    async def _streams(self, visit: Visit, found: Resolved) -> bool:
        """The client asked for an event stream, and can be given one before it is granted."""
        head = visit.exchange.head
        if head.method == "HEAD" or head.upgrade is not None:
            return False
        if b"text/event-stream" in (head.get(b"accept") or b"").lower():
            return True
        if found.stream is None and isinstance(found.body, KeptBody):
            found.stream = await asks_for_stream(found.body)
        return bool(found.stream)

    async def _forward(
        self, visit: Visit, found: Resolved, grant: Grant, admission: Admission
    ) -> Carried:
        exchange, record, route = visit.exchange, visit.record, found.route
        head = exchange.head
        loop = asyncio.get_running_loop()
        began = loop.time()

        def on_first_byte() -> RawHeaders:
            now = loop.time()
            record.first_byte = now - exchange.received_at
            found.body.read_up()
            return timing_headers(record, now - began)

        def on_cut(status: int, response_bytes: int) -> None:
            record.status, record.response_bytes = status, response_bytes

        dropped, added = visit.caller.drop_and_set(
            inject=route.auth == "inject", backend_key=grant.key
        )
        if visit.heart is not None:
            # What goes on behind comments has to be as plain as they are.
            dropped |= {b"accept-encoding"}
            added = (*added, (b"Accept-Encoding", b"identity"))
        plan = Plan(
            endpoint=grant.endpoint,
            path=found.path,
            query=found.query,
            prefix=found.prefix,
            host_backend=route.host_header == "backend",
            drop_headers=dropped,
            set_headers=added,
            trusted_peer=self._trusted.has(head.peer),
            retry=head.method in _IDEMPOTENT or stateless(found.path),
            response_timeout=route.response_timeout,
            tunnel_idle=route.tunnel_idle,
            on_first_byte=on_first_byte,
            on_silence=partial(self._gate.watch_silence, grant),
            on_tunnel_silent=admission.silence,
            on_cut=on_cut,
        )
        return await forward(visit.answer, found.body, plan, self._pool)

    async def _may_try_again(
        self, failed: UpstreamFailed, grant: Grant, route: RouteConfig, began: float
    ) -> bool:
        """The retry rule, as far as only a look at the backend can tell."""
        if failed.code != "backend_unreachable":
            return False
        alive = await self._gate.suspect(grant)
        if not failed.may_retry:
            return False
        if failed.unsent:
            return True
        took = asyncio.get_running_loop().time() - began
        if route.response_timeout is not None and took >= route.response_timeout:
            # It answers, but not in the time allowed: once more would be twice the time.
            return False
        # A request that its backend died of would be the death of the next one too.
        return alive

    @staticmethod
    def _note(record: ExchangeRecord, carried: Carried) -> None:
        record.status = carried.status
        record.response_bytes = carried.response_bytes
        record.retried = record.retried or carried.retried
        if not carried.complete:
            record.outcome = "aborted"
        elif carried.tunnel:
            record.outcome = "tunnel"
        elif carried.status >= 500:
            record.outcome = "error"


class Cut:
    """A block that a callback can end from outside, with an error: `admission.on_abort = cut`.

    Told apart from the cancellation of the client's leaving by the count that
    `Task.cancelling` keeps, as `asyncio.timeout` does it.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._error: LauncherError | None = None

    def __call__(self, error: LauncherError) -> None:
        """End the block; at the next turn of the loop, so that it is always waiting for
        something then."""
        asyncio.get_running_loop().call_soon(self._cancel, error)

    def _cancel(self, error: LauncherError) -> None:
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    def __enter__(self) -> Cut:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._before = self._task.cancelling()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        others = task.uncancel() > self._before
        if not others and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._error from None


class Trusted:
    """Which peers' X-Forwarded-* are believed."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = tuple(ipaddress.ip_network(one, strict=False) for one in networks)

    def has(self, peer: str) -> bool:
        """Whether an address is in one of the networks; a Unix socket's peer never is."""
        if not self._networks or peer == "unix":
            return False
        address = ipaddress.ip_address(peer)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _is_quiet(found: Resolved) -> bool:
    return found.path.decode("latin-1") in found.first.quiet


def stateless(path: bytes) -> bool:
    """Whether a backend's path is inference that may be asked twice."""
    return path.endswith(_STATELESS)


def opened_by_own_page(head: RequestHead) -> bool:
    """A WebSocket opened by a page that came from this same host.

    To load the page was to wake its backend. A page that only reconnects (a tab left open)
    wakes nobody: else it would have its backend back at once, each time another needs the
    place.
    """
    if head.upgrade is None or head.upgrade.strip().lower() != b"websocket":
        return False
    return bool(head.host) and head.get(b"origin") is not None and same_origin(head)


def _unserved(failed: UpstreamFailed, grant: Grant) -> LauncherError:
    if failed.code == "bad_upstream":
        advice = "see the backend's log"
    else:
        advice = "it is started again if it died; send the request again"
    return LauncherError(failed.code, f"{grant.backend}: {failed.message}; {advice}.")
