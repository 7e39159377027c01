"""All services of a process: built in one place, started and stopped in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import structlog

from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.access.trusted_proxies import Proxies
from ollama_router_core.config.settings import Config
from ollama_router_core.coordination.interface import Coordination
from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_core.records.sinks import LogSink
from ollama_router_server.accounts.authentication import Authenticator
from ollama_router_server.accounts.usage_limits import UsageLimits
from ollama_router_server.coordination.alone import alone
from ollama_router_server.coordination.between_routers import between_routers, unshared
from ollama_router_server.fleet.computed_sizes import ComputedSizes
from ollama_router_server.fleet.differing_models import DifferingModels
from ollama_router_server.fleet.discovery.discovery_loop import Discovery
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.fleet.health_checker import START_SECONDS
from ollama_router_server.fleet.incident_reports import Incidents
from ollama_router_server.fleet.lasting_drains import LastingDrains
from ollama_router_server.fleet.measured_loads import MeasuredLoads
from ollama_router_server.fleet.model_loader import ModelLoader
from ollama_router_server.fleet.operation_runner import Operations
from ollama_router_server.fleet.reachability import Reachability
from ollama_router_server.fleet.standing_conditions import Standing
from ollama_router_server.fleet.warmup import WarmUp
from ollama_router_server.relay.queue_timer import QueueTimer
from ollama_router_server.running_config import ConfigChange, RunningConfig, check_local_only
from ollama_router_server.storage.activity import ActivityStore
from ollama_router_server.storage.audit_log import AuditLog
from ollama_router_server.storage.console_sessions import ConsoleSessions
from ollama_router_server.storage.database import Database, database_url_of
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.storage.drains import DrainStore
from ollama_router_server.storage.group_store import GroupStore
from ollama_router_server.storage.incident_store import IncidentStore
from ollama_router_server.storage.log_retention import LogRetention
from ollama_router_server.storage.operation_store import OperationStore
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.response_store import ResponseStore
from ollama_router_server.storage.router_activity import RouterActivity
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill, spill_folder
from ollama_router_server.storage.token_key import make_token_prover, token_key_path
from ollama_router_server.storage.token_usage import TokenUsage
from ollama_router_server.storage.upgrade import prepare_database
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import Clock, SystemClock, machine_name
from ollama_router_server.telemetry.histograms import DECIDING, Histogram
from ollama_router_server.telemetry.log_files import Several, open_log_files
from ollama_router_server.telemetry.router_log import set_level
from ollama_router_server.telemetry.traces import open_traces
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.targets import build_targets
from ollama_router_server.worker_news import WorkerNews

__all__ = ["Services"]

_log = structlog.get_logger("services")


class Services:
    """The services of one process. `draining` is True once it was signalled to stop.

    `coordination` is shared with the router's other workers; without it, this is the only worker. Only the first worker
    runs tasks that must run once: log retention, loading models. `start` waits up to `patience` seconds for servers to
    answer.

    Raises:
        ConfigError: a setting routes a `local_only` model to an external host.
    """

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str],
        *,
        clock: Clock | None = None,
        coordination: Coordination | None = None,
        patience: float = START_SECONDS,
    ) -> None:
        check_local_only(config)
        self.clock = clock or SystemClock()
        self.database_url = database_url_of(config, environment)
        prover = make_token_prover(token_key_path(self.database_url, environment))
        self.coordination = between_routers(config, coordination or alone(), prover=prover, clock=self.clock)
        self.proxies = _proxies(config)
        self.environment = environment
        self.router_name = f"{machine_name()[:80]}:{config.proxy_port}"
        """The router's name among those on one database."""
        self.computed_sizes = ComputedSizes()
        self._differing = DifferingModels()
        self.refused: Counter[str] = Counter()
        """Requests refused since start, by error code: see `refusal_waves.is_refused`."""
        self._patience = patience
        self.draining = self.started = False
        self.targets = build_targets(config, environment)
        self._build_storage(config, prover)
        self._build_accounts(config)
        self._build_log(config)
        self._build_fleet(config)
        self._build_admission(config)
        self.running_config = RunningConfig(
            config,
            environment,
            targets=self.targets,
            discovery=self.discovery,
            fleet=self.fleet,
            drains=self.drains,
            warm_up=self.warm_up,
            first=self.first,
        )
        self.running_config.on_change(self._apply_change)
        self.worker_news = WorkerNews(
            self.coordination,
            fleet=self.fleet,
            incidents=self.incidents,
            authenticator=self.authenticator,
            admission=self.admission,
            sink=self.sink,
            refused=self.refused,
        )

    def _build_storage(self, config: Config, prover: TokenProver | None) -> None:
        self.database = Database(self.database_url, busy_timeout=1.0)  # a lock must not delay requests for longer
        self.users = UserStore(self.database, clock=self.clock, prover=prover)
        self.groups = GroupStore(self.database, clock=self.clock)
        self.console_sessions = ConsoleSessions(
            self.database,
            clock=self.clock,
            idle=config.console.session_idle_timeout,
            longest=config.console.session_max_age,
        )
        self.responses = ResponseStore(self.database, clock=self.clock, settings=config.responses)
        self.request_log = RequestLog(self.database)
        self.audit = AuditLog(self.database, clock=self.clock)

    def _build_accounts(self, config: Config) -> None:
        shared = self.coordination
        activity = ActivityStore(self.database, router=shared.group, worker=shared.index)
        routers = RouterActivity(activity, clock=self.clock)
        self.usage_limits = UsageLimits(TokenUsage(self.database), workers=shared, routers=routers, clock=self.clock)
        self.authenticator = Authenticator(self.users, clock=self.clock, workers=shared, grace=config.database_grace)
        self.authenticator.persons.settings = config.persons

    def _build_log(self, config: Config) -> None:
        self.incidents = Incidents(
            IncidentStore(self.database),
            router=self.router_name,
            coordination=self.coordination,
            clock=self.clock,
            standing=self._standing,
        )
        self.log_retention = LogRetention(
            self.request_log, self.audit, self.incidents.store, config.request_log, clock=self.clock
        )
        folder = spill_folder(self.database_url, self.environment)
        self._spill, self._journal = RowSpill(folder), RowJournal(folder)
        self.sink = DatabaseSink(
            self.request_log,
            clock=self.clock,
            spill=self._spill,
            journal=self._journal,
            away=self.incidents.database,
        )
        self.log_files = open_log_files(config.request_log, worker=self.coordination.index if self.shared else None)
        self.traces = open_traces(config.traces)

    def _build_fleet(self, config: Config) -> None:
        self.upstream = HttptoolsUpstream()
        self.discovery = Discovery(
            config,
            upstream=self.upstream,
            environment=self.environment,
            clock=self.clock,
            changed=lambda: self.running_config.take_up_found(),  # noqa: PLW0108 - made below
        )
        self.fleet = FleetService(
            config=config,
            targets=self.targets,
            upstream=self.upstream,
            clock=self.clock,
            coordination=self.coordination,
        )
        self.measured_loads = MeasuredLoads(self.computed_sizes, self.clock.wall)
        self.fleet.events.polled = self._measure_loads
        self._loader = ModelLoader(config=config, targets=self.targets, upstream=self.upstream, fleet=self.fleet)
        self.drains = LastingDrains(DrainStore(self.database), self.audit, self.fleet, follows=self.first)
        self.warm_up = WarmUp(config=config, loader=self._loader, fleet=self.fleet)
        self.operations = Operations(
            OperationStore(self.database, clock=self.clock),
            loader=self._loader,
            targets=self.targets,
            upstream=self.upstream,
            fleet=self.fleet,
            clock=self.clock,
        )
        self.reachability = Reachability(config, self.targets, self.clock)

    def _measure_loads(self, name: str) -> None:
        facts, host = self.fleet.servers.get(name), self.config.servers.get(name)
        if facts is not None and host is not None:
            self.measured_loads.look(facts, host)

    def _build_admission(self, config: Config) -> None:
        self.deciding = Histogram(DECIDING)
        self.admission = AdmissionController(
            config,
            self.fleet,
            self.clock.monotonic,
            decided=self.deciding.observe,
            claims=self.fleet if self.coordination.asks else None,
        )
        self.fleet.events.changed = self.admission.facts_changed
        self._queue_timer = QueueTimer(self.admission, self.clock)

    async def prepare(self) -> bool:
        """Migrate the database; return whether it has a user.

        Raises:
            ConfigError, StorageUnavailable: the database cannot be used.
        """
        await prepare_database(self.database_url)
        return bool(await self.users.count())

    async def start(self) -> None:
        """Start all services; servers that are down are reported and do not prevent it.

        Raises:
            StorageUnavailable: users cannot be read.
        """
        self.running_config.warn()
        for text in unshared(self.config, self.database_url) if self.first else ():
            _log.info("coordination_not_shared", detail=text)
        if self.coordination.asks:
            await self.coordination.beat(self.clock.monotonic())
        await self.authenticator.start()
        self.sink.start()
        self.incidents.start(_enabled(self.config))
        if self.log_files is not None:
            self.log_files.start()
        self.usage_limits.start()
        if self.first:
            self.log_retention.start()
            self.warm_up.start()
        await self.drains.start()
        await self._start_fleet()
        if self.first:
            self.operations.start()
        self.reachability.start()
        self.worker_news.start()
        self.started = True

    async def _start_fleet(self) -> None:
        self.fleet.events.noticed = self.incidents.notice
        await self.fleet.start(self._patience)
        await self.discovery.start(self._patience)
        await self.running_config.take_up_found()
        await self.fleet.asked()
        health, now = self.fleet.health, self.clock.monotonic()
        await self.incidents.go_on([name for name in self.config.servers if health.state_of(name, now) != "closed"])

    def _standing(self) -> Standing:
        return Standing(
            waiting=self.admission.waiting,
            most_waiting=self.config.queue.max_waiting,
            lost_rows=self.sink.dropped,
            refused=self.refused + self.worker_news.refused_elsewhere,
            differing=self._differing.find(self.fleet.servers),
            versions=frozenset(one.version for one in self.fleet.servers.values() if one.up and one.version),
        )

    def _apply_change(self, change: ConfigChange) -> None:
        config = change.config
        self.proxies = _proxies(config)
        self._loader.config = config
        self.admission.renamed({old: new for new, old in change.taken.items()})
        if change.before.logging.level != config.logging.level:
            set_level(config.logging.level)
        self.admission.reconfigure(config)
        self.authenticator.grace = config.database_grace
        self.responses.settings = config.responses
        self.authenticator.persons.settings = config.persons
        self.log_retention.reconfigure(config.request_log)
        self.reachability.reconfigure(config)
        self.measured_loads.reconfigure(config.servers)
        self.incidents.reconfigure(_enabled(config))

    @property
    def config(self) -> Config:
        """The config in effect."""
        return self.running_config.config

    @property
    def sinks(self) -> LogSink:
        """The sinks of request records."""
        return self.sink if self.log_files is None else Several(self.sink, self.log_files)

    @property
    def first(self) -> bool:
        """Whether this process runs the tasks of which a router needs one."""
        return self.coordination.index == 0

    @property
    def shared(self) -> bool:
        """Whether this is one of several workers."""
        return self.coordination.size > 1

    async def aclose(self) -> None:
        """Stop in reverse order; pending records are written."""
        self.draining = True
        await self.worker_news.aclose()
        await self.reachability.aclose()
        await self.operations.aclose()
        await self.warm_up.aclose()
        await self.drains.aclose()
        await self.discovery.aclose()
        await self.fleet.aclose()
        await self.upstream.aclose()
        await self.log_retention.aclose()
        await self.usage_limits.aclose()
        await self.incidents.aclose()
        await self.sink.aclose()
        if self.log_files is not None:
            await self.log_files.aclose()
        if self.traces is not None:
            await self.traces.aclose()
        await self.authenticator.aclose()
        await self.database.aclose()
        self._spill.close()
        self._journal.close()


def _proxies(config: Config) -> Proxies:
    return Proxies(config.trusted_proxies, config.forwarded_header)


def _enabled(config: Config) -> set[str]:
    """Return the enabled servers and external hosts, for which incidents can occur."""
    servers = {name for name, one in config.servers.items() if one.enabled}
    return servers | {name for name, one in config.external_hosts.items() if one.enabled}
