"""What happens to a request: resolve → admit → forward, and one record of how it ended.

The Handler that the front is given. It must not know how any of the steps works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from launcher.api.endpoint import OwnEndpoints
from launcher.auth.access import Access, Caller
from launcher.auth.browsers import OWN_HEADERS, Guard, names_of
from launcher.auth.meters import Meters
from launcher.config import LauncherConfig, RouteConfig
from launcher.core.routing import RouteTable
from launcher.errors import LauncherError
from launcher.http.exchange import ClientGone, Exchange
from launcher.proxy.body import Budget
from launcher.proxy.own import OwnPaths, send_error
from launcher.proxy.pool import UpstreamPool
from launcher.proxy.readers import Readers, Right
from launcher.proxy.resolve import Resolver
from launcher.proxy.resolved import Candidate, Resolved
from launcher.proxy.serving import Serving, Visit
from launcher.proxy.target import check_path, printable
from launcher.proxy.timing import timing_headers
from launcher.proxy.waiting import WaitingRoom
from launcher.runtime.admission import Admitter
from launcher.telemetry.record import ExchangeObserver, ExchangeRecord, ExchangeStarted

log = logging.getLogger(__name__)

#: nginx's number for a client that left before its answer.
CLIENT_GONE = 499


class ProxyHandler:
    """Carries every exchange of one configuration to its end; another configuration has another
    handler, and what that one began keeps to what it came with.

    `on_start` is told of each whose route is known, `on_done` of every one, once.
    """

    def __init__(
        self,
        config: LauncherConfig,
        table: RouteTable[RouteConfig],
        gate: Admitter,
        pool: UpstreamPool,
        budget: Budget,
        own: OwnEndpoints,
        on_done: ExchangeObserver,
        on_start: ExchangeStarted,
        meters: Meters,
        waiting: WaitingRoom,
        readers: Readers,
        latest: Callable[[], ProxyHandler],
    ) -> None:
        """`latest` is the handler of the configuration that holds when it is asked."""
        self._access = Access(config.keys, meters)
        guard = Guard(config.allowed_hosts, names_of(config))
        self._own = OwnPaths(own, guard, readers)
        self._resolver = Resolver(config, table, guard, budget)
        self._serving = Serving(config, gate, pool, self._resolver, waiting)
        self._on_done = on_done
        self._on_start = on_start
        self._latest = latest

    def admits(self, right: Right) -> bool:
        """Whether who reads an answer that goes on may do so by this configuration."""
        return self._access.admits(right.head, right.need, details=right.details)

    async def __call__(self, exchange: Exchange) -> None:
        """Raises CancelledError or ClientGone where the client left, CancelledError where the
        launcher doesn't wait for it any longer, else nothing."""
        head = exchange.head
        record = ExchangeRecord(head.method, printable(head.path), head.peer)
        visit = Visit(exchange, record, self._access.caller(head))
        try:
            await self._answer(visit)
        except (asyncio.CancelledError, ClientGone) as error:
            if exchange.gone or isinstance(error, ClientGone):
                record.status, record.outcome = CLIENT_GONE, "client_gone"
            else:
                _cut(record, LauncherError("draining", "The launcher is shutting down."))
            raise
        finally:
            if visit.found is not None:
                visit.found.body.close()
            now = asyncio.get_running_loop().time()
            visit.caller.leave(now)
            if visit.caller.key is not None:
                record.key = visit.caller.key.name
            record.duration = now - exchange.received_at
            record.request_bytes = exchange.body_read
            self._on_done(record)

    async def _answer(self, visit: Visit) -> None:
        try:
            await self._carry(visit)
        except LauncherError as error:
            await self._fail(visit, error)
        except ClientGone:
            raise
        except Exception:
            # A bug in here is this exchange's misfortune, and nobody else's; it is logged,
            # and the client told.
            log.exception("a bug while %s %s was carried", visit.record.method, visit.record.path)
            bug = LauncherError("internal_error", "The launcher failed; its log has the details.")
            await self._fail(visit, bug)

    async def _carry(self, visit: Visit) -> None:
        exchange, record = visit.exchange, visit.record
        check_path(exchange.head.path)
        route = self._resolver.by_host(exchange.head)
        if route is None:
            own = self._own.find(exchange)
            if own is not None:
                record.route = "-"
                self._on_start(record)
                answered = await self._own.answer(exchange, own, visit.caller)
                record.status, record.response_bytes = answered
                return
            found = await self._resolver.on_path(exchange, visit.caller)
        else:
            found = await self._resolver.on_host(exchange, route, visit.caller)
        visit.found = found
        self._name(record, found)
        self._on_start(record)
        await self._serve(visit, found)

    async def _serve(self, visit: Visit, found: Resolved) -> None:
        """As it was resolved; where what it waited for is no longer configured, as the latest
        configuration has it, if that sends it elsewhere."""
        by = self
        while True:
            visit.elsewhere = partial(by._leads_elsewhere, found, visit.caller)
            try:
                return await by._serving.serve(visit, found)
            except LauncherError as error:
                untouched = found.body.replayable and not visit.answer.responded
                if error.code != "backend_stopped" or not untouched:
                    raise
                if not (candidates := by._leads_elsewhere(found, visit.caller)):
                    raise
                found.lead(candidates)
                by = self._latest()

    def _leads_elsewhere(self, found: Resolved, caller: Caller) -> tuple[Candidate, ...]:
        """Who serves it by the latest configuration, where that isn't who does by this one."""
        latest = self._latest()
        return () if latest is self else latest._resolver.leads_now(found, caller)

    @staticmethod
    def _name(record: ExchangeRecord, found: Resolved) -> None:
        record.route = found.route.name
        record.model = found.asked

    async def _fail(self, visit: Visit, error: LauncherError) -> None:
        record = visit.record
        if visit.answer.responded:
            # Half an answer can't be taken back: the client must be able to tell.
            _cut(record, error)
            visit.exchange.abort()
            return
        record.status, record.code, record.outcome = error.status, error.code, "error"
        more = timing_headers(record, None) if visit.found is not None else OWN_HEADERS
        await send_error(
            visit.answer,
            error,
            show_detail=visit.caller.sees_details(),
            more=more,
        )


def _cut(record: ExchangeRecord, error: LauncherError) -> None:
    """It ends before its end; the status is what the client was told, where it was told one."""
    record.status = record.status or error.status
    record.code, record.outcome = error.code, "cut"
