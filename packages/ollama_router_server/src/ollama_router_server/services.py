"""Everything that lives as long as the process: built in one place, started and stopped in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import structlog
from msgspec.structs import replace

from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.access.trusted_proxies import Proxies
from ollama_router_core.config.found_servers import with_found
from ollama_router_core.config.settings import Config
from ollama_router_core.coordination import Coordination
from ollama_router_core.errors import ConfigError
from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.routing.policy import leaks
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
from ollama_router_server.storage.activity import ActivityStore
from ollama_router_server.storage.audit_log import AuditLog
from ollama_router_server.storage.console_sessions import ConsoleSessions
from ollama_router_server.storage.database import Database, default_database_url
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
from ollama_router_server.upstream.interface import Origin
from ollama_router_server.upstream.targets import Target, build_targets, missing_keys
from ollama_router_server.worker_news import WorkerNews

__all__ = ["Services", "database_url_of"]

_log = structlog.get_logger("services")


def database_url_of(config: Config, environment: Mapping[str, str]) -> str:
    """`OROUTER_DATABASE_URL`, else the config's `database_url`, else a SQLite file in the user's data directory."""
    return environment.get("OROUTER_DATABASE_URL") or config.database_url or default_database_url()


class Services:
    """What one process holds. `draining` is True from the moment it was asked to stop.

    `coordination` is what it shares with the other workers of the router; without, it is the only one. The first
    worker alone does what is to be done once: cleaning the log, loading models. `start` waits for `patience` seconds at
    the longest until servers have answered.

    Raises:
        ConfigError: a setting leads a model out of the house that has to stay (`local_only`).
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
        if found := leaks(config):
            raise ConfigError("; ".join(found))
        self.config = self.declared = config
        """What holds: `declared`, which somebody wrote, with the servers that were found."""
        self.found_by: Mapping[str, str] = {}
        """Where each found server was found, by name."""
        self._taking_up = asyncio.Lock()
        self.clock = clock or SystemClock()
        self.database_url = database_url_of(config, environment)
        prover = make_token_prover(token_key_path(self.database_url, environment))
        self.coordination = between_routers(config, coordination or alone(), prover=prover, clock=self.clock)
        self.proxies = _proxies(config)
        self.config_problem: str | None = None
        """Why the config as it is now cannot be used; None while it can, and is."""
        self.needs_restart: tuple[str, ...] = ()
        """Settings that the config changes and a restart takes up."""
        self.environment = environment
        self.computed_sizes = ComputedSizes()
        self._differing = DifferingModels()
        self.refused: Counter[str] = Counter()
        """Requests refused since the start, by error code: see `refusal_waves.is_refused`."""
        self._taken_up: list[Callable[[], None]] = []
        self._patience = patience
        self.draining = self.started = False
        self._warnings = missing_keys(config, environment)
        self.targets = build_targets(config, environment)
        self._build_storage(config, prover)
        self._build_accounts(config)
        self._build_log(config)
        self._build_fleet(config)
        self._build_admission(config)
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
        self.database = Database(self.database_url, busy_timeout=1.0)  # a lock must not hold up requests for longer
        self.users = UserStore(self.database, clock=self.clock, prover=prover)
        self.groups = GroupStore(self.database, clock=self.clock)
        self.console_sessions = ConsoleSessions(
            self.database,
            clock=self.clock,
            idle=config.console.session_idle,
            longest=config.console.session_longest,
        )
        self.responses = ResponseStore(self.database, clock=self.clock, settings=config.responses)
        self.request_log = RequestLog(self.database)
        self.audit = AuditLog(self.database, clock=self.clock)

    def _build_accounts(self, config: Config) -> None:
        self.usage_limits = self._new_usage_limits()
        self.authenticator = Authenticator(
            self.users, clock=self.clock, workers=self.coordination, grace=config.database_grace
        )
        self.authenticator.persons.settings = config.persons

    def _build_log(self, config: Config) -> None:
        self.incidents = self._new_incidents()
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
            changed=self._take_up_found,
        )
        self.fleet = FleetService(
            config=config,
            targets=self.targets,
            upstream=self.upstream,
            clock=self.clock,
            coordination=self.coordination,
        )
        self.measured_loads = MeasuredLoads(self.computed_sizes, self.clock.wall)
        self.fleet.on_polled(self._look_at_memory)
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

    def _look_at_memory(self, name: str) -> None:
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
        self.fleet.on_change(self.admission.facts_changed)
        self._queue_timer = QueueTimer(self.admission, self.clock)

    async def prepare(self) -> bool:
        """Bring the database up to date; says whether there is a user.

        Raises:
            ConfigError, StorageUnavailable: the database cannot be used.
        """
        await prepare_database(self.database_url)
        return bool(await self.users.count())

    async def start(self) -> None:
        """Begin to work; servers that are down are reported and do not prevent it.

        Raises:
            StorageUnavailable: users cannot be read.
        """
        for warning in self._warnings:
            _log.warning("external_host_without_key", detail=warning)
        for text in unshared(self.config, self.database_url) if self.first else ():
            _log.info("coordination_not_shared", detail=text)
        if self.coordination.asks:
            await self.coordination.beat(self.clock.monotonic())
        await self.authenticator.start()
        self.sink.start()
        self.incidents.start(_asked(self.config))
        if self.log_files is not None:
            self.log_files.start()
        self.usage_limits.start()
        if self.first:
            self.log_retention.start()
            self.warm_up.start()
        await self.drains.start()
        self.fleet.on_notice(self.incidents.notice)
        await self.fleet.start(self._patience)
        await self.discovery.start(self._patience)
        await self._take_up_found()
        await self.fleet.asked()
        health, now = self.fleet.health, self.clock.monotonic()
        await self.incidents.go_on([name for name in self.config.servers if health.state_of(name, now) != "closed"])
        if self.first:
            self.operations.start()
        self.reachability.start()
        self.worker_news.start()
        self.started = True

    def _new_incidents(self) -> Incidents:
        store = IncidentStore(self.database)
        return Incidents(
            store,
            router=self.router_name,
            coordination=self.coordination,
            clock=self.clock,
            standing=self._standing,
        )

    def _standing(self) -> Standing:
        return Standing(
            waiting=self.admission.waiting,
            most_waiting=self.config.queue.max_waiting,
            lost_rows=self.sink.dropped,
            refused=self.refused + self.worker_news.refused_elsewhere,
            differing=self._differing.find(self.fleet.servers),
            versions=frozenset(one.version for one in self.fleet.servers.values() if one.up and one.version),
        )

    @property
    def router_name(self) -> str:
        """What this router is called among those on one database."""
        return f"{machine_name()[:80]}:{self.config.proxy_port}"

    def _new_usage_limits(self) -> UsageLimits:
        shared = self.coordination
        store = ActivityStore(self.database, router=shared.group, worker=shared.index)
        routers = RouterActivity(store, clock=self.clock)
        return UsageLimits(TokenUsage(self.database), workers=shared, routers=routers, clock=self.clock)

    def on_config(self, taken_up: Callable[[], None]) -> None:
        """Call back in the moment in which another config holds."""
        self._taken_up.append(taken_up)

    async def reconfigure(self, config: Config) -> None:
        """Go by another config from now on; what needs a restart stays as it is.

        Nothing under way is touched: a request that runs on a server which is gone now ends there.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
        """
        if found := leaks(config):
            raise ConfigError("; ".join(found))
        build_targets(config, self.environment)
        warnings = missing_keys(config, self.environment)
        async with self._taking_up:
            await self.discovery.reconfigure(config)
            old, self.declared = self.declared, config
            spoken = {name for name, one in config.servers.items() if _drain(old, name) != one.drain}
            await self._take_up(spoken)
        for warning in warnings:
            _log.warning("external_host_without_key", detail=warning)

    async def _take_up_found(self) -> None:
        """Go by what was found since the last time, if it changes anything."""
        async with self._taking_up:
            if self._with_found()[0] != self.config:
                await self._take_up(())

    def _with_found(self) -> tuple[Config, Mapping[str, str]]:
        """Return what is declared and found, and where."""
        return with_found(self.declared, self.discovery.found)

    async def _take_up(self, spoken: Collection[str]) -> None:
        """Go by what is declared and found; `spoken` are servers whose `drain` was changed in the declared config."""
        await self.drains.forget(spoken)  # first: from the new config to the fleet that goes by it nothing waits
        config, found_by = self._with_found()
        targets, known = build_targets(config, self.environment), self.targets
        moved = {name for name, target in targets.items() if name in known and known[name].origin != target.origin}
        renamed, taken = self._renamed(targets), self._taken(config.servers, targets)
        same = {new: old for new, old in renamed.items() if _drain(config, new) == _drain(self.config, old)}
        await self.drains.renamed(same)
        if found_by != self.found_by and self.first:
            come, gone = found_by.keys() - self.found_by.keys(), self.found_by.keys() - found_by.keys()
            _log.info("servers_found", found=sorted(come), gone=sorted(gone), use=config.discovery.use)
        old, self.config, self.found_by, self.proxies = self.config, config, found_by, _proxies(config)
        self._loader.config = config
        self.targets.update(targets)  # places that are gone stay: requests may be on their way there
        self.fleet.take_names(taken)
        self.admission.renamed({before: name for name, before in taken.items()})
        self._taken_up_by_all(old, config)
        await self.fleet.reconfigure(config, moved=moved, renamed=renamed, taken=taken)
        if self.first:
            self.warm_up.reconfigure(config)

    def _renamed(self, targets: Mapping[str, Target]) -> Mapping[str, str]:
        """Names that go, by those that come for the same addresses."""
        here = self.fleet.servers
        gone = {_address(self.targets[name]): name for name in here if name not in targets}
        come = (name for name in targets if name not in here and _address(targets[name]) in gone)
        return {name: gone[_address(targets[name])] for name in come}

    def _taken(self, servers: Collection[str], targets: Mapping[str, Target]) -> Mapping[str, str]:
        """Names that servers have from others that go on, or had themselves as others have them now: the old by new."""
        here = self.fleet.servers
        had = {_address(self.targets[name]): name for name in here}
        known = {
            name: had[_address(targets[name])] for name in servers if name in targets and _address(targets[name]) in had
        }
        left = {name for name in here if name not in targets or _address(targets[name]) != _address(self.targets[name])}
        return {
            new: old for new, old in known.items() if old in left and new != old and (new in here or old in targets)
        }

    def _taken_up_by_all(self, old: Config, config: Config) -> None:
        if old.logging.level != config.logging.level:
            set_level(config.logging.level)
        self.admission.reconfigure(config)
        self.authenticator.grace = config.database_grace
        self.responses.settings = config.responses
        self.authenticator.persons.settings = config.persons
        self.log_retention.reconfigure(config.request_log)
        self.reachability.reconfigure(config)
        self.measured_loads.reconfigure(config.servers)
        self.incidents.reconfigure(_asked(config))
        for taken_up in self._taken_up:
            taken_up()

    @property
    def sinks(self) -> LogSink:
        """Where records go."""
        return self.sink if self.log_files is None else Several(self.sink, self.log_files)

    @property
    def first(self) -> bool:
        """Whether this process does what one of all workers has to do."""
        return self.coordination.index == 0

    @property
    def shared(self) -> bool:
        """Whether this is one of several workers."""
        return self.coordination.size > 1

    async def aclose(self) -> None:
        """Stop in the reverse order; rows that wait are written."""
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


def _address(target: Target) -> Origin:
    return replace(target.origin, name="")


def _proxies(config: Config) -> Proxies:
    return Proxies(config.trusted_proxies, config.forwarded_header)


def _asked(config: Config) -> set[str]:
    """Return the servers and hosts with which anything can be wrong: those that are in use."""
    servers = {name for name, one in config.servers.items() if one.enabled}
    return servers | {name for name, one in config.external_hosts.items() if one.enabled}


def _drain(config: Config, name: str) -> bool | None:
    server = config.servers.get(name)
    return None if server is None else server.drain
