"""Everything that lives as long as the process: built in one place, started and stopped in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from ollama_router_core.access.trusted_proxies import Proxies
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.routing.policy import leaks
from ollama_router_server.accounts.authentication import Authenticator
from ollama_router_server.accounts.peers import Peers
from ollama_router_server.accounts.usage_limits import UsageLimits
from ollama_router_server.coordination.shared_memory import BEAT, SharedMemory
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.fleet.reachability import Reachability
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.fleet.warmup import WarmUp
from ollama_router_server.relay.admitting import AdmissionController
from ollama_router_server.storage.activity import ActivityStore
from ollama_router_server.storage.database import Database, default_database_url
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.storage.groups import GroupStore
from ollama_router_server.storage.log_retention import LogRetention
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.token_usage import TokenUsage
from ollama_router_server.storage.upgrade import prepare_database
from ollama_router_server.storage.users import UserStore
from ollama_router_server.system import Clock, SystemClock, random_bytes
from ollama_router_server.telemetry.log_files import Several, open_log_files
from ollama_router_server.telemetry.logs import set_level
from ollama_router_server.telemetry.metric_aggregation import Family
from ollama_router_server.telemetry.traces import open_traces
from ollama_router_server.upstream.engine import HttptoolsUpstream
from ollama_router_server.upstream.targets import build_targets, missing_keys

__all__ = ["Services", "database_url_of"]

_log = structlog.get_logger("services")


def database_url_of(config: Config, environment: Mapping[str, str]) -> str:
    """`OROUTER_DATABASE_URL`, else the config's `database_url`, else a SQLite file in the user's data directory."""
    return environment.get("OROUTER_DATABASE_URL") or config.database_url or default_database_url()


class Services:
    """What one process holds. `draining` is True from the moment it was asked to stop.

    `board` is what it shares with the other workers of the router. The first worker alone does what is to be done
    once: cleaning the log, loading models.

    Raises:
        ConfigError: a setting leads a model out of the house that has to stay (`local_only`).
    """

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str],
        *,
        clock: Clock | None = None,
        board: SharedMemory | None = None,
    ) -> None:
        if found := leaks(config):
            raise ConfigError("; ".join(found))
        self.config = config
        self.board = board
        self.proxies = _proxies(config)
        self.siblings: WorkerSync | None = None
        self.config_problem: str | None = None
        """Why the config as it is now cannot be used; None while it can, and is."""
        self._environment = environment
        self._taken_up: list[Callable[[], None]] = []
        self.clock = clock or SystemClock()
        self.draining = False
        self.started = False
        self._database_url = database_url_of(config, environment)
        self._warnings = missing_keys(config, environment)
        self.targets = build_targets(config, environment)
        self.database = Database(self._database_url, busy_timeout=1.0)  # a lock must not hold up requests for longer
        self.users = UserStore(self.database, clock=self.clock)
        self.groups = GroupStore(self.database, clock=self.clock)
        self.ledger = self._new_ledger(board)
        self.request_log = RequestLog(self.database)
        self.keeper = LogRetention(self.request_log, config.request_log, clock=self.clock)
        self.authenticator = Authenticator(self.users, clock=self.clock)
        self.sink = DatabaseSink(self.request_log, clock=self.clock)
        self.log_files = open_log_files(config.request_log, worker=None if self.board is None else self.board.worker)
        self.traces = open_traces(config.traces)
        self.upstream = HttptoolsUpstream()
        self.fleet = FleetService(
            config=config,
            targets=self.targets,
            upstream=self.upstream,
            clock=self.clock,
            shared=None if board is None else board.servers,
        )
        self.warm_up = WarmUp(config=config, targets=self.targets, upstream=self.upstream, fleet=self.fleet)
        self.admitting = AdmissionController(config, self.targets, self.fleet, self.clock)
        self.reachability = Reachability(config, self.targets, self.clock)

    async def prepare(self) -> bool:
        """Bring the database up to date; says whether there is a user.

        Raises:
            ConfigError, StorageUnavailable: the database cannot be used.
        """
        await prepare_database(self._database_url)
        return bool(await self.users.count())

    async def start(self) -> None:
        """Begin to work; servers that are down are reported and do not prevent it.

        Raises:
            StorageUnavailable: users cannot be read.
        """
        for warning in self._warnings:
            _log.warning("external_host_without_key", detail=warning)
        await self.authenticator.start()
        self.sink.start()
        if self.log_files is not None:
            self.log_files.start()
        self.ledger.start()
        if self.first:
            self.keeper.start()
            self.warm_up.start()
        await self.fleet.start()
        self.reachability.start()
        if self.siblings is not None:
            self.siblings.start()
        self.started = True

    def _new_ledger(self, board: SharedMemory | None) -> UsageLimits:
        """A process that is alone is a router with one worker, of a name that nobody else has."""
        name = random_bytes(12).hex() if board is None else board.name
        store = ActivityStore(self.database, router=name, worker=0 if board is None else board.worker)
        peers = Peers(store, clock=self.clock, shared=None if board is None else board.users)
        return UsageLimits(TokenUsage(self.database), peers, clock=self.clock)

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
        targets = build_targets(config, self._environment)
        warnings = missing_keys(config, self._environment)
        known = self.targets
        moved = {name for name, target in targets.items() if name in known and known[name].origin != target.origin}
        old, self.config, self.proxies = self.config, config, _proxies(config)
        self.targets.update(targets)  # places that are gone stay: requests may be on their way there
        self._taken_up_by_all(old, config)
        await self.fleet.reconfigure(config, moved=moved)
        if self.first:
            self.warm_up.reconfigure(config)
        for warning in warnings:
            _log.warning("external_host_without_key", detail=warning)

    def _taken_up_by_all(self, old: Config, config: Config) -> None:
        for name, server in config.servers.items():
            if self.board is not None and name in old.servers and old.servers[name].drain != server.drain:
                self.board.drain(name, on=server.drain)
        if old.logging.level != config.logging.level:
            set_level(config.logging.level)
        self.admitting.reconfigure(config)
        self.keeper.reconfigure(config.request_log)
        self.reachability.reconfigure(config)
        for taken_up in self._taken_up:
            taken_up()

    @property
    def sinks(self) -> LogSink:
        """Where records go."""
        return self.sink if self.log_files is None else Several(self.sink, self.log_files)

    @property
    def first(self) -> bool:
        """Whether this process does what one of all workers has to do."""
        return self.board is None or self.board.worker == 0

    def join(self, collect: Callable[[], list[Family]], under_way: Callable[[], list[dict[str, Any]]]) -> None:
        """With other workers: publish what is asked of all, do as they were told. To be called before `start`."""
        board = self.board
        if board is not None:
            self.siblings = WorkerSync(
                board.folder, board.worker, collect=collect, under_way=under_way, follow=self._follow
            )

    def drain(self, server: str, *, on: bool) -> None:
        """Send a server nothing new, or end that, in every worker."""
        self.fleet.drain(server, on=on)
        if self.board is not None:
            self.board.drain(server, on=on)

    def _follow(self) -> None:
        """Do what other workers were told, and show them what they cannot see."""
        board = self.board
        if board is None:
            return
        for server in self.config.servers:
            drained = board.drained(server)
            if drained is not None and drained != (server in self.fleet.health.draining):
                self.fleet.drain(server, on=drained)
        for name, value in self._own_figures().items():
            board.figures.set(name, value)
        board.figures.set(BEAT, int(self.clock.monotonic()))

    def _own_figures(self) -> dict[str, int]:
        return {"waiting": self.admitting.waiting, "dropped": self.sink.dropped, "pending": self.sink.pending}

    def figures(self) -> dict[str, int]:
        """Requests that wait, rows dropped and rows pending, of all workers."""
        own = self._own_figures()
        if self.board is None:
            return own
        return {name: value + self.board.figures.elsewhere(name) for name, value in own.items()}

    async def aclose(self) -> None:
        """Stop in the reverse order; rows that wait are written."""
        self.draining = True
        if self.siblings is not None:
            await self.siblings.aclose()
        await self.reachability.aclose()
        await self.warm_up.aclose()
        await self.fleet.aclose()
        await self.upstream.aclose()
        await self.keeper.aclose()
        await self.ledger.aclose()
        await self.sink.aclose()
        if self.log_files is not None:
            await self.log_files.aclose()
        if self.traces is not None:
            await self.traces.aclose()
        await self.authenticator.aclose()
        await self.database.aclose()


def _proxies(config: Config) -> Proxies:
    return Proxies(config.trusted_proxies, config.forwarded_header)
