"""The composition root: the only place that builds everything and knows how it hangs together.

    config → drivers → scheduler → dispatcher → handler → front

What keeps state is built once; what only reads the configuration is built anew for each, by
`take`, and takes its predecessor's place in one assignment.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from launcher.api.app import OwnPaths
from launcher.api.endpoint import Context
from launcher.api.history import History
from launcher.api.server import ApiServer
from launcher.auth.meters import Meters
from launcher.config import LauncherConfig
from launcher.config.redact import Redactor, secrets_of
from launcher.config.reload import Load, Reloader
from launcher.control import records
from launcher.control.plane import ControlPlane
from launcher.core.events import Closed
from launcher.core.policy import POLICIES
from launcher.core.scheduler import Scheduler
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec, Driver, DriverSpec
from launcher.drivers.container import ContainerDriver
from launcher.drivers.process import ProcessDriver
from launcher.errors import ConfigError
from launcher.http.endpoint import Endpoint
from launcher.http.listener import Server
from launcher.http.pool import UpstreamPool
from launcher.proxy.body import Budget
from launcher.proxy.exchange import Exchange
from launcher.proxy.fields import field_table
from launcher.proxy.handler import Proxy
from launcher.proxy.own import Own
from launcher.proxy.waiting import WaitingRoom
from launcher.runtime.dispatcher import Dispatcher
from launcher.runtime.output import Outputs
from launcher.runtime.probe import Prober
from launcher.state.records import DECISIONS, ESTIMATES, STARTS, DecisionStore, Measurements
from launcher.state.store import StateStore, path_for
from launcher.tasks import Group
from launcher.telemetry.decisions import DecisionLog
from launcher.telemetry.exchanges import Exchanges
from launcher.telemetry.facts import Fact, FactPublisher, StartEnded, StopBegan
from launcher.telemetry.journal import Journal
from launcher.telemetry.log import log_fact
from launcher.telemetry.metrics import Metrics
from launcher.telemetry.timeline import Timeline

#: What is read of the state file.
TABLES = (ESTIMATES, STARTS, DECISIONS, *records.TABLES)


class App:
    """A launcher that runs: what `running` yields."""

    def __init__(
        self,
        config: LauncherConfig,
        store: StateStore,
        load: Load | None = None,
        redactor: Redactor | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`load` reads the configuration again, for a reload; without it there is nothing new
        to read. `redactor` is who takes secrets out of the log as well; `tls` is what clients'
        connections are taken with."""
        self._tls = tls
        self._redactor = redactor = redactor or Redactor()
        redactor.learn(secrets_of(config))
        scheduler = Scheduler(config.capacity, POLICIES[config.policy]())
        loop = asyncio.get_running_loop()
        self.config = config
        self.exchanges = Exchanges(config, self._in_flight)
        self.metrics = Metrics(
            config, lambda: scheduler.snapshot(loop.time()), self.exchanges.by_route
        )
        self.measurements = Measurements(store, lambda: scheduler.snapshot(loop.time()))
        self.history = History(
            config, self.measurements.starts, self.measurements.count, self.exchanges.last_hits
        )
        decided = DecisionStore(store)
        self.decisions = DecisionLog(decided.kept, decided.keep)
        self.pool = UpstreamPool()
        self.meters = Meters()
        self.outputs = Outputs(lambda backend: self.dispatcher.driver(backend), redactor.text)
        self.waiting = WaitingRoom(self.outputs.last_line)
        publisher = FactPublisher(
            self.metrics.fact,
            self.history.fact,
            self.measurements.fact,
            self.decisions.fact,
            log_fact,
            self.outputs.fact,
            self._forget,
            self._steer,
            of_grants=(self.metrics.fact, log_fact),
        )
        self.journal = Journal()
        self.timeline = Timeline(lambda: scheduler.snapshot(loop.time()))
        self._drivers = _Drivers(config)
        driver_of = self._drivers.of(config)
        self.dispatcher = Dispatcher(
            scheduler,
            self._drivers.made,
            {backend.id: backend for backend in config.backends},
            driver_of,
            prober=Prober(),
            clock=loop.time,
            observers=(publisher.observe, self.journal.observe, self.timeline.observe),
            prewarm=config.prewarm,
            estimates=self.measurements.estimates,
            redactor=redactor,
        )
        self.plane = ControlPlane(config, self.dispatcher, store, now=loop.time, wall=time.time)
        self.starts = Group()
        self.budget = Budget(config.max_buffered)
        self._fields = field_table()
        self.reloader = Reloader(load or (lambda: config), self)
        self.api = ApiServer(
            Context(
                config=config,
                control=self.dispatcher,
                plane=self.plane,
                metrics=self.metrics,
                history=self.history,
                decisions=self.decisions,
                reloader=self.reloader,
                journal=self.journal,
                timeline=self.timeline,
                output=self.outputs,
                starts=self.starts,
                redact=redactor.text,
            ),
            self.meters,
            on_done=self.exchanges.add,
        )
        self._own = Own(OwnPaths(), self.api)
        self.handler = self._handler(config)
        self.server = Server(self.handler, fields=self._fields)
        self._endpoints: dict[BackendId, Endpoint] = {}

    def _handler(self, config: LauncherConfig) -> Proxy:
        """Everything that only reads a configuration."""
        return Proxy(
            config,
            self.dispatcher,
            self.pool,
            self.budget,
            self._own,
            on_done=self.exchanges.add,
            meters=self.meters,
            waiting=self.waiting,
            fields=self._fields,
            latest=lambda: self.handler,
        )

    def leaving(self) -> Mapping[BackendId, DriverSpec]:
        """What backends still are that they are no longer configured to be."""
        return self.dispatcher.leaving()

    def take(self, config: LauncherConfig) -> None:
        """Be what this configuration says from the next request on. Those that are under way
        keep to the one they came with. Nothing is awaited: nobody sees half of it.

        Raises ConfigError, before anything is changed, for a certificate that can't be used.
        """
        if self._tls is not None:
            _renew(self._tls, config)
        handler = self._handler(config)
        self._redactor.learn(secrets_of(config))
        self.dispatcher.reconfigure(
            {backend.id: backend for backend in config.backends},
            self._drivers.of(config),
            prewarm=config.prewarm,
            capacity=config.capacity,
        )
        self.plane.reconfigure(config)
        self.meters.keep({key.name for key in config.keys})
        self.exchanges.reconfigure(config)
        self.metrics.reconfigure(config)
        self.history.reconfigure(config)
        self.budget.limit = config.max_buffered
        self.server.on_request = self.handler = handler
        self.api.take(config)
        self.outputs.look_again()
        self.config = config

    def _in_flight(self) -> Counter[str]:
        carriers = (request.carrier for request in self.server.requests)
        return Counter(one.route for one in carriers if isinstance(one, Exchange) and one.route)

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


class _Drivers:
    """One driver of each kind, and none of a kind that nobody ever needed."""

    def __init__(self, config: LauncherConfig) -> None:
        self._config = config
        self._made: dict[type, Driver] = {}

    @property
    def made(self) -> tuple[Driver, ...]:
        """All there are."""
        return tuple(self._made.values())

    def of(self, config: LauncherConfig) -> dict[BackendId, Driver]:
        """Each backend's driver."""
        return {one.id: self._of(type(one.driver)) for one in config.backends}

    def _of(self, kind: type) -> Driver:
        if kind not in self._made:
            self._made[kind] = (
                ContainerDriver(
                    docker_host=self._config.docker_host,
                    compose_project=self._config.compose_project,
                )
                if kind is ContainerSpec
                else ProcessDriver()
            )
        return self._made[kind]


def _tls(config: LauncherConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


def _renew(context: ssl.SSLContext, config: LauncherConfig) -> None:
    """The certificate of the connections to come: what its files hold now."""
    if config.tls_cert is None:
        return
    try:
        _tls(config)  # so that half of a bad pair is never in use
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError([f"{config.source}: [launcher] tls_cert: {why}"]) from error


@asynccontextmanager
async def running(
    config: LauncherConfig, load: Load | None = None, redactor: Redactor | None = None
) -> AsyncIterator[App]:
    """A launcher that accepts requests, until the block is left.

    `load` and `redactor` are `App`'s.
    Raises OSError for an address or a certificate that can't be used. At the end running
    exchanges have `drain_timeout` to end; containers stay up unless `stop_on_exit`.
    """
    tls = _tls(config)
    store = await StateStore.open(path_for(config.state_file, os.environ), TABLES)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        app = App(config, store, load, redactor, tls)
        stack.callback(app.exchanges.flush)
        stack.push_async_callback(app.pool.close)
        # Before anything is listed, cleaned up or started: a second launcher that can't have
        # its address must not touch what belongs to the first.
        await app.server.bind(config.listen, config.admin_listen)
        stack.push_async_callback(app.server.close, 0.0)
        await app.dispatcher.open()
        # At the end, what the latest configuration says.
        stack.push_async_callback(lambda: app.dispatcher.close(app.config.stop_on_exit))
        app.plane.open()
        stack.push_async_callback(app.plane.close)
        stack.callback(app.measurements.save_all)
        await app.api.start()
        stack.push_async_callback(lambda: app.api.close(app.config.drain_timeout))
        await app.server.open(tls)
        stack.push_async_callback(lambda: app.server.close(app.config.drain_timeout))
        stack.push_async_callback(app.starts.cancel)
        stack.callback(app.api.end_streams)
        stack.callback(app.journal.close)
        stack.push_async_callback(app.outputs.close)
        # First of all, those who wait are told; each step is taken even if one before it fails
        # or is cut short by a second signal.
        stack.callback(app.dispatcher.feed, Closed())
        yield app
