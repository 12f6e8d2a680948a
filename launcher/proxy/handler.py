"""What happens to a request, in reading order: resolve → admit → forward → account.

Each step is taken at once where it can be: `Proxy.__call__` goes from a parsed head to the
backend's socket without a task. Who has to wait goes on in `_serve`, by the same steps.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from launcher.auth.access import Access
from launcher.auth.browsers import Guard, names_of, only_pointed_at, same_origin
from launcher.auth.meters import Meters
from launcher.config import KeyConfig, LauncherConfig, RouteConfig, Secret
from launcher.errors import LauncherError
from launcher.http.errors import ClientDisconnected
from launcher.http.headers import FieldTable, RequestHead
from launcher.http.pool import UpstreamPool
from launcher.http.server import Request
from launcher.proxy.body import (
    KEPT_JSON,
    WHOLE_JSON,
    Budget,
    KeptBody,
    StreamedBody,
    WholeBody,
    keep,
    looks_for_stream,
    media_type,
    model_of,
    model_of_json,
    scanner_for,
)
from launcher.proxy.exchange import (
    AGAIN,
    CLIENT_GONE,
    FAILED,
    CutBlock,
    Exchange,
    Failed,
    Prepared,
)
from launcher.proxy.fields import BROWSER, CREDENTIAL, ENCODED, JSON, LAUNCHER, is_json
from launcher.proxy.json_scan import Scanned
from launcher.proxy.own import Own
from launcher.proxy.router import (
    BY_MODEL,
    OWN,
    Destination,
    InQuery,
    Router,
    Target,
    model_in_query,
    printable,
)
from launcher.proxy.waiting import (
    INTERVAL,
    Guest,
    Heartbeat,
    WaitingRoom,
    comment,
    dialect_of,
    opens_a_page,
)
from launcher.proxy.wishes import wishes
from launcher.runtime.admission import Admission, Admitter, Ask, Grant, ask_for
from launcher.telemetry.record import ExchangeRecord

log = logging.getLogger(__name__)


class Proxy:
    """Carries every exchange of one configuration to its end; another configuration has another
    proxy, and what that one began keeps to what it came with. `on_done` is told of each, once."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: Admitter,
        pool: UpstreamPool,
        budget: Budget,
        own: Own,
        on_done: Callable[[ExchangeRecord], None],
        meters: Meters,
        waiting: WaitingRoom,
        fields: FieldTable,
        latest: Callable[[], Proxy],
    ) -> None:
        """`latest` is the proxy of the configuration that holds when it is asked."""
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.config = config
        self.router = Router(config)
        self.access = Access(config.keys, meters)
        self.gate = gate
        self._permits = gate.permits
        self.pool = pool
        self.budget = budget
        self.trusted = Trusted(config.trusted_proxies)
        self.on_done = on_done
        self._guard = Guard(config.allowed_hosts, names_of(config))
        self._checks_hosts = config.allowed_hosts is not None
        self._own = own
        self._waiting = waiting
        self._fields = fields
        self._latest = latest
        self._forwarded: dict[tuple[str, str], bytes] = {}
        self._authorizations: dict[int, tuple[Secret, bytes]] = {}

    def forwarded_for(self, peer: str, scheme: str) -> bytes:
        """Return X-Forwarded-For and -Proto for a client. A peer on a Unix socket has no address
        to tell."""
        found = self._forwarded.get((peer, scheme))
        if found is None:
            found = b"X-Forwarded-Proto: " + scheme.encode()
            if peer != "unix":
                found = b"X-Forwarded-For: %b\r\n%b" % (peer.encode(), found)
            if len(self._forwarded) >= 1024:
                self._forwarded.clear()
            self._forwarded[peer, scheme] = found
        return found

    def authorization(self, key: Secret) -> bytes:
        """Return the header line with a backend's key."""
        found = self._authorizations.get(id(key))
        if found is None:
            found = self._authorizations[id(key)] = (
                key,
                b"Authorization: Bearer " + key.value.encode(),
            )
        return found[1]

    # -- resolve -----------------------------------------------------------------------------------

    def __call__(self, request: Request) -> None:
        """Carry a request, as far as that goes without waiting."""
        exchange = Exchange(self, request)
        self._step(exchange, self._resolve)

    def _step(self, exchange: Exchange, step: Callable[[Exchange], None]) -> None:
        """Take a step; whatever it does, the exchange has an end that the client can trust."""
        try:
            step(exchange)
            return
        except LauncherError as error:
            exchange.refuse(error)
        except ClientDisconnected:
            exchange.client_gone()
            return
        except Exception:
            # A bug in here is this exchange's misfortune, and nobody else's; it is logged, and
            # the client told.
            log.exception("a bug while %r was carried", exchange)
            exchange.refuse(LauncherError("internal_error", FAILED))
        exchange.close()
        exchange.account()
        exchange.request.over()

    def _resolve(self, exchange: Exchange) -> None:
        """Find out where the request leads, and whether its key opens that."""
        request, router = exchange.request, self.router
        memory = request.memory
        if memory is not None and isinstance(memory.note, Prepared) and memory.note.proxy is self:
            prepared = memory.note
            exchange.target = prepared.target
            self._enter(exchange, prepared.key)
            self._go_on(exchange, prepared.target)
            return
        path = request.line.path
        target = router.of_host(request.host, path) if router.has_hosts else None
        if target is None:
            if self._own.has(request):
                exchange.route = "-"
                # Whoever answers keeps the record of it.
                request.carry(self._own.answer(request))
                return
            target = router.kept.get(path) or router.of_path(path)
        if target is None:
            exchange.target = Target(OWN, printable(path))
            # Who has no key learns no names.
            self._let_in(exchange, None)
            raise router.unknown_route(exchange.caller.routes)
        exchange.target = target
        destination = target.destination
        self._let_in(exchange, None if destination is None else destination.route)
        if memory is not None and not request.flags & BROWSER:
            memory.note = Prepared(self, target, exchange.key)
        self._go_on(exchange, target)

    def _go_on(self, exchange: Exchange, target: Target) -> None:
        """The route's door is open: take the body, as far as it is here or soon will be."""
        request, destination = exchange.request, target.destination
        if destination is not None:
            exchange.destination = destination
            exchange.route = destination.route.name
        by_model = target.kind == BY_MODEL
        if request.body_complete and (by_model or not request.chunked):
            self._with_body(exchange)
        elif (
            0 < request.content_length <= WHOLE_JSON
            and (by_model or request.flags & JSON)
            and not request.expects_continue
        ):
            # Soon here, and cheaper to wait for than to stream.
            request.when_complete(lambda: self._step(exchange, self._with_body))
        else:
            request.carry(self._with_long_body(exchange))

    def _let_in(self, exchange: Exchange, route: RouteConfig | None) -> None:
        """Only with a key that opens the route (None: any, the body will tell which), or where
        none is asked and no page from elsewhere is behind it. Raises LauncherError: the key's, the
        guard's."""
        request, access = exchange.request, self.access
        public = route is not None and route.public
        if access.asks_users and not public:
            key = None
            line = None
            if request.flags & CREDENTIAL:
                lines = [field for field in request.fields if field.flags & CREDENTIAL]
                if len(lines) == 1:
                    line = lines[0].line
                    key = access.remembered.get(line)
            if key is None or (key.routes is not None and route is not None):
                key = exchange.caller.pick(route)
                if line is not None:
                    # A valid key's line may be known by its bytes from now on.
                    access.remember(line, key)
                    self._fields.keep(lines[0])
            self._enter(exchange, key)
        elif self._checks_hosts or request.flags & BROWSER:
            self._guard.route(request.head, public=public)

    def _enter(self, exchange: Exchange, key: KeyConfig | None) -> None:
        """The key opens it, and it counts against the key's limits. Raises LauncherError
        `rate_limited`, `too_many_in_flight`."""
        if key is not None:
            exchange.key = key
            self.access.meter(key).enter(key, exchange.request.received_at)
            exchange.metered = True

    def _with_body(self, exchange: Exchange) -> None:
        """The body is here, or there is none: find the model in it where the path doesn't tell."""
        request, target = exchange.request, exchange.target
        if request.body_error is not None:
            raise request.body_error
        if request.gone:
            raise ClientDisconnected("the client left")
        data = request.take()
        if data:
            if not self.budget.take(len(data)):
                request.carry(self._with_spooled_body(exchange, data))
                return
            exchange.body = WholeBody(self.budget, data)
        if target.kind == BY_MODEL:
            self._find_model(exchange, data)
        self._admit(exchange)

    def _find_model(self, exchange: Exchange, data: bytes) -> None:
        """The model of a body that is here as a whole."""
        request = exchange.request
        query = request.line.query
        if data and request.flags & (JSON | ENCODED) == JSON:
            found = model_of_json(data)
            key = exchange.key
            known = self.router.models.get(found.model or "")
            if known is None or query is not None or (key is not None and key.routes is not None):
                self._lead_by_body(exchange, found, model_in_query(query), as_json=True)
                return
            exchange.stream = found.stream
            exchange.model_at = (found.span, True)
            exchange.destination = known
            exchange.route = known.route.name
            return
        in_query = model_in_query(query)
        scanner = scanner_for(request.head, needed=in_query is None) if data else None
        if scanner is not None:
            found = model_of(data, scanner)
            self._lead_by_body(exchange, found, in_query, as_json=scanner.is_json)
            return
        asked, exchange.model_at = in_query or (None, None)
        exchange.stream = False
        self._lead(exchange, asked)

    def _lead_by_body(
        self,
        exchange: Exchange,
        found: Scanned,
        in_query: tuple[str, InQuery] | None,
        *,
        as_json: bool,
    ) -> None:
        exchange.stream = found.stream
        exchange.model_at = (found.span, as_json)
        asked = found.model
        if asked is None and in_query is not None:
            asked, exchange.model_at = in_query
        self._lead(exchange, asked)

    def _lead(self, exchange: Exchange, asked: str | None) -> None:
        """The request asks for that model. Raises LauncherError."""
        key = exchange.key
        try:
            found = self.router.of_model(asked, None if key is None else key.routes)
        except KeyError:
            raise exchange.caller.not_for(f"the model {asked}") from None
        exchange.destination = found
        exchange.route = found.route.name

    async def _with_spooled_body(self, exchange: Exchange, data: bytes) -> None:
        """Memory for bodies is used up: this one waits in a file."""
        await self._guarded(exchange, self._spooled(exchange, data))

    async def _spooled(self, exchange: Exchange, data: bytes) -> None:
        exchange.body = body = KeptBody(self.budget)
        await body.spool(data)
        if exchange.target.kind == BY_MODEL:
            self._find_model(exchange, data)
        await self._serve(exchange)

    async def _with_long_body(self, exchange: Exchange) -> None:
        """The body comes in pieces: stream it, or read it where the model stands in it."""
        await self._guarded(exchange, self._long_body(exchange))

    async def _long_body(self, exchange: Exchange) -> None:
        request = exchange.request
        head = request.head
        if exchange.target.kind != BY_MODEL:
            exchange.body = StreamedBody(request)
            exchange.stream = None if self._is_kept(head) else False
            if exchange.stream is None and not request.expects_continue:
                # To read is to send the 100 Continue, which has to wait for the admission.
                exchange.body = await keep(request, self.budget, KEPT_JSON)
            await self._serve(exchange)
            return
        in_query = model_in_query(request.line.query)
        scanner = scanner_for(head, needed=in_query is None)
        if scanner is None:
            asked, exchange.model_at = in_query or (None, None)
            exchange.stream = False
            self._lead(exchange, asked)
            exchange.body = StreamedBody(request)
        else:
            exchange.body = await keep(request, self.budget, self.config.max_body, scanner)
            self._lead_by_body(exchange, scanner.finish(), in_query, as_json=scanner.is_json)
        await self._serve(exchange)

    @staticmethod
    def _is_kept(head: RequestHead) -> bool:
        """JSON of a known length is kept, so that it can be looked at and sent again."""
        return is_json(media_type(head)) and 0 < (head.content_length or 0) <= KEPT_JSON

    # -- admit -------------------------------------------------------------------------------------

    def _admit(self, exchange: Exchange) -> None:
        """Go on at once under a permit, else wait for a place."""
        request, destination = exchange.request, exchange.destination
        assert destination is not None
        if not request.flags & (LAUNCHER | BROWSER) and request.upgrade is None:
            permit = self._permits.get(destination.only)
            if (
                permit is not None
                and permit.room > 0
                and exchange.target.text not in destination.route.quiet
            ):
                permit.enter(exchange, request.received_at)
                exchange.permit = permit
                exchange.settle(permit.grant)
                self._forward(exchange)
                return
        request.carry(self._guarded(exchange, self._serve(exchange)))

    @staticmethod
    def _is_quiet(exchange: Exchange) -> bool:
        """The path neither wakes a backend nor keeps it."""
        destination = exchange.destination
        assert destination is not None
        return exchange.target.text in destination.route.quiet

    def _ask(self, exchange: Exchange) -> Ask:
        """What is asked of the gate: as the key or else the route says, or meeker where the
        request says so."""
        destination, key = exchange.destination, exchange.key
        assert destination is not None
        route, head = destination.route, exchange.request.head
        priority, wake = route.priority, route.wake
        if key is not None:
            priority = priority if key.priority is None else key.priority
            wake = wake if key.wake is None else key.wake
        priority, wake = wishes(head, priority, wake)
        ask = ask_for(
            self.config, route, backends=destination.backends, priority=priority, wake=wake
        )
        strange = key is None and not route.public and only_pointed_at(head)
        return ask._replace(quiet=True) if strange or self._is_quiet(exchange) else ask

    # -- forward -----------------------------------------------------------------------------------

    def _forward(self, exchange: Exchange) -> None:
        """Send it on a connection that is at hand, or on a new one."""
        grant = exchange.grant
        exchange.begin_attempt()
        # What can't be sent twice goes on a connection that can't have gone stale.
        if exchange.repeatable and (exchange.body.replayable or exchange.body.length == 0):
            connection = self.pool.idle(grant.endpoint)
            if connection is not None:
                exchange.transmit(connection)
                return
        self.connect(exchange)

    def connect(self, exchange: Exchange) -> None:
        """Send it on a new connection, which has to be waited for."""
        exchange.on_cut = cut = CutBlock()
        work = self._connected(exchange, cut)
        exchange.request.carry(self._guarded(exchange, work, hand_on=True))

    async def _connected(self, exchange: Exchange, cut: CutBlock) -> None:
        failed: Failed | None = None
        with cut:
            try:
                connection = await self.pool.acquire(exchange.grant.endpoint, fresh=True)
            except OSError as error:
                failed = exchange.unreachable(error)
            finally:
                exchange.on_cut = None
        if cut.asked is not None:
            # Before it had begun, or in the very turn in which it was done.
            if failed is None:
                self.pool.discard(connection)
            raise cut.asked
        if failed is not None:
            await self._serve(exchange, failed)
            return
        if exchange.request.gone:
            self.pool.discard(connection)
            raise ClientDisconnected("the client left")
        failed = exchange.try_on(connection)
        if failed is not None:
            await self._serve(exchange, failed)

    def recover(self, exchange: Exchange, failed: Failed) -> None:
        """An attempt failed: look at the backend, and try again where that is right."""
        exchange.request.carry(self._guarded(exchange, self._serve(exchange, failed)))

    # -- where it has to wait --------------------------------------------------------------------

    async def _guarded(
        self, exchange: Exchange, work: Coroutine[Any, Any, None], *, hand_on: bool = False
    ) -> None:
        """Run a coroutine of an exchange to its end: errors are told to the client, and the
        exchange leaves a record, unless (`hand_on`) it goes on by itself."""
        request = exchange.request
        going_on = False
        try:
            try:
                if request.gone:
                    # It left before this had begun: nobody is asked for anything.
                    work.close()
                    raise ClientDisconnected("the client left")
                await work
                going_on = hand_on and not request.ended
            except LauncherError as error:
                exchange.refuse(error)
            except ClientDisconnected:
                raise
            except Exception:  # as in `_step`: a bug is one exchange's misfortune
                log.exception("a bug while %r was carried", exchange)
                exchange.refuse(LauncherError("internal_error", FAILED))
        except (asyncio.CancelledError, ClientDisconnected) as error:
            if request.gone or isinstance(error, ClientDisconnected):
                exchange.status, exchange.outcome = CLIENT_GONE, "client_gone"
            else:
                shutting = LauncherError("draining", "The launcher is shutting down.")
                exchange.status = exchange.status or shutting.status
                exchange.code, exchange.outcome = shutting.code, "cut"
            raise
        finally:
            if not going_on:
                exchange.close()
                exchange.account()

    async def _serve(self, exchange: Exchange, failed: Failed | None = None) -> None:
        """To the end of the response; as it was resolved, and where what it waited for is no
        longer configured, as the latest configuration has it. Raises LauncherError."""
        by = self
        while True:
            try:
                return await by._attempts(exchange, failed)
            except LauncherError as error:
                untouched = exchange.body.replayable and not exchange.answered
                if error.code != "backend_stopped" or not untouched:
                    raise
                if (found := by._elsewhere(exchange)) is None:
                    raise
                exchange.release(ok=False)
                exchange.destination = found
                by = self._latest()
                failed = None

    def _elsewhere(self, exchange: Exchange) -> Destination | None:
        """Who serves it by the latest configuration, where that isn't who does by this one."""
        latest, now = self._latest(), exchange.destination
        if latest is self or now is None:
            return None
        key = exchange.key
        try:
            if now.asked:
                found = latest.router.of_model(now.asked, None if key is None else key.routes)
            else:
                by_name = latest.router.of_route(now.route.name)
                if by_name is None:
                    return None
                found = by_name
        except (LauncherError, KeyError):
            return None
        return None if found.backends == now.backends else found

    async def _attempts(self, exchange: Exchange, failed: Failed | None) -> None:
        """Ask for a place and use it, once more at most. `failed` is how the first attempt ended,
        where that was made without waiting."""
        ask = self._ask(exchange)
        deadline = self.now() + ask.queue_timeout
        again = False
        while True:
            if failed is None:
                grant = await self._admitted(exchange, ask)
                if grant is None:
                    return
            with CutBlock() as cut:
                exchange.on_cut = cut
                if exchange.admission is not None:
                    exchange.admission.on_abort = cut
                try:
                    if failed is None:
                        failed = await self._attempt(exchange)
                    if failed is None:
                        return
                    may = await self._may_try_again(exchange, failed)
                finally:
                    exchange.on_cut = None
            exchange.release(ok=False)
            if again or not may:
                raise _unserved(failed, exchange)
            again = exchange.retried = True
            failed = None
            ask = ask._replace(queue_timeout=max(0.0, deadline - self.now()))

    async def _admitted(self, exchange: Exchange, ask: Ask) -> Grant | None:
        """Wait for a place; None where the client was a browser, which looks at a page now."""
        request, destination = exchange.request, exchange.destination
        assert destination is not None
        with ExitStack() as held:
            if not ask.quiet and not destination.asked and opened_by_own_page(request.head):
                # Held besides the place proper: it is refused where that would wake somebody.
                first = held.enter_context(self.gate.admit(Ask(ask.backends, quiet=True)))
                if first.grant is None:
                    await first.granted()
            admission = held.enter_context(self.gate.admit(ask))
            grant = admission.grant
            if grant is None:
                if opens_a_page(request.head, destination):
                    guest = Guest(
                        exchange,
                        destination.route.name,
                        destination.backends,
                        details=exchange.caller.sees_details(),
                        elsewhere=lambda: self._elsewhere(exchange),
                    )
                    grant = await self._waiting.receive(guest, admission, held)
                else:
                    grant = await self._granted(admission, exchange)
            if grant is None:
                return None
            exchange.settle(grant)
            exchange.cold = exchange.cold or grant.cold
            exchange.queued += grant.queued
            exchange.starting += grant.starting
            exchange.admission = admission
            exchange.held = held.pop_all()
            return grant

    async def _granted(self, admission: Admission, exchange: Exchange) -> Grant:
        """Wait, with heartbeats where the client asked for a stream."""
        asked = self.now()
        assert exchange.destination is not None
        every = exchange.destination.route.heartbeat
        try:
            if not every or not await self._streams(exchange):
                return await admission.granted()
            due = exchange.request.received_at + every
            while True:
                try:
                    async with asyncio.timeout_at(due):
                        return await admission.granted()
                except TimeoutError:
                    await self._beat(admission, exchange)
                due = self.now() + min(every, INTERVAL)
        except LauncherError:
            exchange.queued += self.now() - asked
            exchange.starting += admission.starting
            exchange.cold = exchange.cold or admission.starting > 0.0
            raise

    async def _beat(self, admission: Admission, exchange: Exchange) -> None:
        progress = admission.progress()
        if exchange.heart is None:
            exchange.heart = Heartbeat(exchange.request, dialect_of(exchange.target.path))
        await exchange.heart.beat(
            comment(progress, exchange.model or progress.backend), cold=progress.cold
        )

    async def _streams(self, exchange: Exchange) -> bool:
        """The client asked for an event stream, and can be given one before it is granted."""
        request = exchange.request
        if request.line.method == "HEAD" or request.upgrade is not None:
            return False
        if b"text/event-stream" in (request.head.get(b"accept") or b"").lower():
            return True
        if exchange.stream is None:
            exchange.stream = False
            if isinstance(exchange.body, KeptBody | WholeBody) and self._is_kept(request.head):
                exchange.stream = await looks_for_stream(exchange.body)
        return exchange.stream

    async def _attempt(self, exchange: Exchange) -> Failed | None:
        """Send the request until a final head comes back, on a second connection at most, and
        its response to the end. Raises LauncherError."""
        request = exchange.request
        if request.expects_continue and exchange.stream is None:
            exchange.body = await keep(request, self.budget, KEPT_JSON)
        body = exchange.body
        exchange.begin_attempt()
        at_hand = body.replayable or body.length == 0
        # Once more is once in all: not on a connection that may have gone stale.
        fresh = exchange.retried or not (exchange.repeatable and at_hand)
        while True:
            connection = None if fresh else self.pool.idle(exchange.grant.endpoint)
            if connection is None:
                try:
                    connection = await self.pool.acquire(exchange.grant.endpoint, fresh=True)
                except OSError as error:
                    return exchange.unreachable(error)
            done: asyncio.Future[Failed | None] = self.loop.create_future()
            exchange.done = done
            try:
                failed = exchange.try_on(connection) or await done
            finally:
                exchange.done = None
            if failed is AGAIN:
                fresh = True
                continue
            if failed is None and exchange.status == 101:
                await exchange.tunnel()
            return failed

    async def _may_try_again(self, exchange: Exchange, failed: Failed) -> bool:
        """The retry rule, as far as only a look at the backend can tell."""
        if failed.code != "backend_unreachable":
            return False
        began = exchange.attempt_began
        alive = await self.gate.suspect(exchange.grant)
        if not failed.may_retry:
            return False
        if failed.unsent:
            return True
        assert exchange.candidate is not None
        timeout = exchange.candidate.route.response_timeout
        if timeout is not None and self.now() - began >= timeout:
            # It answers, but not in the time allowed: once more would be twice the time.
            return False
        # A request that its backend died of would be the death of the next one too.
        return alive


class Trusted:
    """Which peers' X-Forwarded-* are believed."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = tuple(ipaddress.ip_network(one, strict=False) for one in networks)

    def has(self, peer: str) -> bool:
        """Return whether an address is in one of the networks; a Unix socket's peer never is."""
        if not self._networks or peer == "unix":
            return False
        address = ipaddress.ip_address(peer)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def opened_by_own_page(head: RequestHead) -> bool:
    """Return whether a WebSocket is opened by a page that came from this same host.

    To load the page was to wake its backend. A page that only reconnects (a tab left open) wakes
    nobody: else it would have its backend back at once, each time another needs the place.
    """
    if head.upgrade is None or head.upgrade.strip().lower() != b"websocket":
        return False
    return bool(head.host) and head.get(b"origin") is not None and same_origin(head)


def _unserved(failed: Failed, exchange: Exchange) -> LauncherError:
    if failed.code == "bad_upstream":
        advice = "see the backend's log"
    else:
        advice = "it is started again if it died; send the request again"
    return LauncherError(failed.code, f"{exchange.backend}: {failed.message}; {advice}.")
