"""The composition root: the only place that builds everything and knows how it hangs together.

    config → drivers → scheduler → dispatcher → handler → front

`serve` runs it until a signal or a cancellation ends it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from launcher import __version__, logs
from launcher.api.assembly import OwnApi, Watched
from launcher.api.stats import History
from launcher.config import LauncherConfig, Listen
from launcher.control import records
from launcher.control.plane import ControlPlane
from launcher.core.events import Closed
from launcher.core.policy import POLICIES
from launcher.core.routing import RouteTable
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId
from launcher.decisions import DecisionLog
from launcher.drivers.base import ContainerSpec, Driver, Endpoint
from launcher.drivers.container import ContainerDriver
from launcher.drivers.process import ProcessDriver
from launcher.facts import Fact, Narrator, StartEnded, StopBegan
from launcher.journal import Journal
from launcher.metrics import Metrics
from launcher.proxy.front import Front
from launcher.proxy.handler import ProxyHandler
from launcher.proxy.pool import UpstreamPool
from launcher.proxy.record import ExchangeRecord
from launcher.redact import Redactor, secrets_of
from launcher.runtime.dispatcher import Dispatcher
from launcher.runtime.output import Outputs
from launcher.runtime.probe import Prober
from launcher.state.decided import DECISIONS, DecisionKeeper
from launcher.state.measured import ESTIMATES, STARTS, Keeper
from launcher.state.store import StateStore
from launcher.state.where import path_for
from launcher.timeline import Timeline

log = logging.getLogger(__name__)

Ready = Callable[[tuple[Listen, ...]], None]
"""Told once, when requests are accepted, at which addresses."""


#: What is read of the state file.
TABLES = (ESTIMATES, STARTS, DECISIONS, *records.TABLES)

#: New objects (less those gone) after which the garbage collector looks at the youngest. A
#: request leaves nothing that only it can find, and each look goes over all that are under way.
GARBAGE = 20_000


class App:
    """A launcher that runs: what `running` yields."""

    def __init__(self, config: LauncherConfig, store: StateStore) -> None:
        redactor = Redactor(secrets_of(config))
        scheduler = Scheduler(config.capacity, POLICIES[config.policy]())
        loop = asyncio.get_running_loop()
        self.config = config
        self.metrics = Metrics(config, lambda: scheduler.snapshot(loop.time()))
        self.keeper = Keeper(store, lambda: scheduler.snapshot(loop.time()))
        self.history = History(config, self.keeper.starts, self.keeper.count)
        decided = DecisionKeeper(store)
        self.decisions = DecisionLog(decided.kept, decided.keep)
        self.pool = UpstreamPool()
        self.outputs = Outputs(lambda backend: self.dispatcher.driver(backend), redactor.text)
        narrator = Narrator(
            self.metrics.fact,
            self.history.fact,
            self.keeper.fact,
            self.decisions.fact,
            logs.log_fact,
            self.outputs.fact,
            self._forget,
            self._steer,
            of_grants=(self.metrics.fact, logs.log_fact),
        )
        self.journal = Journal()
        timeline = Timeline(lambda: scheduler.snapshot(loop.time()))
        driver_of = _drivers(config)
        self.dispatcher = Dispatcher(
            scheduler,
            list({driver.name: driver for driver in driver_of.values()}.values()),
            {backend.id: backend for backend in config.backends},
            driver_of,
            prober=Prober(),
            clock=loop.time,
            observers=(narrator.observe, self.journal.observe, timeline.observe),
            prewarm=config.prewarm,
            estimates=self.keeper.estimates,
            redactor=redactor,
        )
        self.plane = ControlPlane(config, self.dispatcher, store, now=loop.time, wall=time.time)
        self.own = OwnApi(
            config,
            self.dispatcher,
            self.metrics,
            self.history,
            self.decisions,
            watched=Watched(self.journal, timeline, self.outputs),
            redact=redactor.text,
        )
        handler = ProxyHandler(
            config,
            RouteTable(config.routes),
            self.dispatcher,
            self.pool,
            self.own,
            on_start=self._exchange_started,
            on_done=self._exchange_ended,
        )
        self.front = Front(handler)
        self._endpoints: dict[BackendId, Endpoint] = {}

    def _exchange_started(self, record: ExchangeRecord) -> None:
        self.metrics.exchange_started(record)
        self.history.exchange_started(record)

    def _exchange_ended(self, record: ExchangeRecord) -> None:
        self.metrics.exchange_ended(record)
        logs.log_exchange(record)

    def _steer(self, fact: Fact) -> None:
        self.plane.fact(fact)

    def _forget(self, fact: Fact) -> None:
        """No idle connection is kept to a backend that stops, or to what it was before."""
        if isinstance(fact, StopBegan | StartEnded):
            before = self._endpoints.pop(fact.backend, None)
            if before is not None:
                self.pool.forget(before)
        if isinstance(fact, StartEnded):
            endpoint = self.dispatcher.endpoint(fact.backend)
            if endpoint is not None:
                self._endpoints[fact.backend] = endpoint


def _drivers(config: LauncherConfig) -> dict[BackendId, Driver]:
    """Each backend's driver; one instance of a kind, and none of a kind that nobody needs."""
    made: dict[type, Driver] = {}
    found: dict[BackendId, Driver] = {}
    for backend in config.backends:
        kind = type(backend.driver)
        if kind not in made:
            made[kind] = (
                ContainerDriver(
                    docker_host=config.docker_host, compose_project=config.compose_project
                )
                if kind is ContainerSpec
                else ProcessDriver()
            )
        found[backend.id] = made[kind]
    return found


def _tls(config: LauncherConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


@asynccontextmanager
async def running(config: LauncherConfig) -> AsyncIterator[App]:
    """A launcher that accepts requests, until the block is left.

    Raises OSError for an address or a certificate that can't be used. At the end running
    exchanges have `drain_timeout` to end; containers stay up unless `stop_on_exit`.
    """
    tls = _tls(config)
    store = await StateStore.open(path_for(config.state_file, os.environ), TABLES)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        app = App(config, store)
        stack.push_async_callback(app.pool.close)
        # Before anything is listed, cleaned up or started: a second launcher that can't have
        # its address must not touch what belongs to the first.
        await app.front.bind(config.listen)
        stack.push_async_callback(app.front.close, 0.0)
        await app.dispatcher.open()
        stack.push_async_callback(app.dispatcher.close, config.stop_on_exit)
        app.plane.open()
        stack.push_async_callback(app.plane.close)
        stack.callback(app.keeper.save_all)
        await app.front.open(tls)
        stack.push_async_callback(app.front.close, config.drain_timeout)
        stack.push_async_callback(app.own.close)
        stack.callback(app.journal.close)
        stack.push_async_callback(app.outputs.close)
        # First of all, those who wait are told; each step is taken even if one before it fails
        # or is cut short by a second signal.
        stack.callback(app.dispatcher.feed, Closed())
        yield app


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """For a process that does nothing but serve: what is loaded by now stays for good, so the
    garbage collector needn't go over it again and again."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def serve(config: LauncherConfig, ready: Ready | None = None) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP (a terminal that closed), or until cancelled.

    A SIGHUP that was ignored from the beginning (nohup) stays so. A second signal while
    running exchanges are waited for ends them at once.
    """
    loop = asyncio.get_running_loop()
    served = False
    ended = asyncio.Event()
    task = asyncio.current_task()

    def on_signal(name: str) -> None:
        if ended.is_set() and task is not None:
            log.warning("%s again: not waiting any longer", name)
            task.cancel()
        else:
            log.info("%s: finishing what runs, at most %.0f s", name, config.drain_timeout)
            ended.set()

    signals = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for one in signals:
        loop.add_signal_handler(one, on_signal, one.name)
    try:
        async with running(config) as app:
            served = True
            where = ", ".join(str(address) for address in app.front.addresses)
            routes = len(config.routes)
            log.info("launcher %s serves %d routes at %s", __version__, routes, where)
            with _collecting_seldom():
                if ready is not None:
                    ready(app.front.addresses)
                await ended.wait()
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
        if served:
            log.info("launcher has ended")
