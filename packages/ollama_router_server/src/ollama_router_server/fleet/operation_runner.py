"""Run operations on models: pull, load, unload, copy, delete, on several servers at once.

An operation is a row of the database. The process that runs it writes its progress once a second, and reads whether
it was cancelled. Another process takes over one without a sign of life: every operation can be restarted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, assert_never

import structlog
from msgspec.structs import replace

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError, StorageUnavailable
from ollama_router_core.responses.progress import PullProgress
from ollama_router_core.responses.server_documents import words_of
from ollama_router_core.routing.model_placement import OperationKind, read_target, servers_for_operation
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.fleet.model_loader import ModelLoader
from ollama_router_server.storage.operation_store import Operation, OperationStore, TargetProgress
from ollama_router_server.system import Clock, new_request_id
from ollama_router_server.upstream.fetching import fetch
from ollama_router_server.upstream.interface import Upstream, UpstreamRequest
from ollama_router_server.upstream.targets import Target

__all__ = ["Operations"]

_SAVED_EVERY: Final = 1.0
_LOST_AFTER: Final = 10.0
_LOOKED_FOR_EVERY: Final = 5.0
_AT_ONCE: Final = 8
_PATIENCE: Final = 3600.0
"""Timeout in seconds while a server is silent, as it verifies what it has downloaded."""

_log = structlog.get_logger("operations")


class Operations:
    """The operations that this process runs.

    Args:
        store: the database's operations.
        loader: loads and unloads models.
        targets: the servers.
        upstream: connects to them.
        fleet: informed of changes.
        clock: provides the times.
    """

    def __init__(
        self,
        store: OperationStore,
        *,
        loader: ModelLoader,
        targets: Mapping[str, Target],
        upstream: Upstream,
        fleet: FleetService,
        clock: Clock,
    ) -> None:
        self.store = store
        self._loader = loader
        self._targets = targets
        self._upstream = upstream
        self._fleet = fleet
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to look for operations that other processes have left."""
        self._looking = asyncio.create_task(self._look(), name="operations")

    async def aclose(self) -> None:
        """Stop; the next process continues unfinished operations."""
        if self._looking is not None:
            self._looking.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *([] if self._looking is None else [self._looking]), return_exceptions=True)

    async def begin(
        self,
        kind: OperationKind,
        model: str,
        *,
        actor: str,
        servers: str | None = None,
        destination: str | None = None,
        context: int | None = None,
    ) -> Operation:
        """Start an operation; `servers` is `all`, `where-it-fits` or comma-separated names.

        Raises:
            RouterError: the server is unknown, no server has the model, or too many operations are running.
        """
        config = self._loader.config
        request = self._loader.request(model, context)
        names = servers_for_operation(kind, read_target(servers, config), request.route, self._fleet.snapshot, config)
        now = self._clock.wall()
        operation = Operation(
            id=new_request_id(),
            kind=kind,
            model=model,
            destination=destination,
            context=context,
            actor=actor,
            created_at=now,
            seen_at=now,
            finished_at=None,
            cancelled=False,
            targets=tuple(TargetProgress(server=name) for name in names),
        )
        await self.store.add(operation)
        self._carry_out(operation)
        return operation

    async def cancel(self, operation_id: str) -> None:
        """Cancel an operation: connections to servers close at once here, within about a second in other processes."""
        await self.store.cancel(operation_id)
        running = self._running.get(operation_id)
        if running is not None:
            running.cancel("cancelled by a user")

    def _carry_out(self, operation: Operation) -> None:
        task = asyncio.create_task(_Run(self, operation).whole(), name=f"operation-{operation.id}")
        self._running[operation.id] = task
        task.add_done_callback(lambda _: self._running.pop(operation.id, None))

    async def _look(self) -> None:
        while True:
            try:
                for operation in await self.store.take_over(seen_before=self._clock.wall() - _LOST_AFTER):
                    if operation.id not in self._running:
                        _log.info("operation_taken_over", operation=operation.id, kind=operation.kind)
                        self._carry_out(operation)
            except StorageUnavailable:
                pass  # the next round reads again
            await asyncio.sleep(_LOOKED_FOR_EVERY)

    # --- one server -------------------------------------------------------------------------------------------------

    async def perform(self, operation: Operation, server: str, progress: PullProgress) -> str | None:
        """Run an operation on one server; return the server's error message, None on success.

        Raises:
            RouterError: the request failed.
        """
        request = self._loader.request(operation.model, operation.context)
        match operation.kind:
            case "pull":
                return await self._pull(server, operation.model, progress)
            case "load":
                return await self._loader.load(server, request)
            case "unload":
                return await self._loader.unload(server, request)
            case "copy":
                names = {"source": operation.model, "destination": operation.destination}
                return await self._change(server, "POST", "/api/copy", names)
            case "delete":
                return await self._change(server, "DELETE", "/api/delete", {"model": operation.model})
            case _:
                assert_never(operation.kind)

    async def _change(self, server: str, method: str, path: str, names: Mapping[str, str | None]) -> str | None:
        target, body = self._targets[server], json.dumps(names).encode()
        timeouts = replace(target.timeouts, first_byte=_PATIENCE, idle=_PATIENCE)
        status, answer = await fetch(self._upstream, target, method, path, timeouts=timeouts, body=body)
        self._fleet.refresh_soon(server)
        return None if status == 200 else words_of(status, target.redact(answer))

    async def _pull(self, server: str, model: str, progress: PullProgress) -> str | None:
        target = self._targets[server]
        response = await self._upstream.send(
            UpstreamRequest(
                origin=target.origin,
                method="POST",
                target=target.destination.own_path("/api/pull"),
                headers=(*target.credential, (b"content-type", b"application/json")),
                body=json.dumps({"model": model}).encode(),
                timeouts=replace(target.timeouts, first_byte=_PATIENCE, idle=_PATIENCE),
            )
        )
        try:
            while piece := await response.read():
                progress.feed(target.redact(piece))
        finally:
            response.close()
            self._fleet.refresh_soon(server)
        failed = progress.end()
        return failed if response.status == 200 else failed or f"answered {response.status}"

    @property
    def config(self) -> Config:
        """The config in effect."""
        return self._loader.config


class _Run:
    """A running operation."""

    def __init__(self, operations: Operations, operation: Operation) -> None:
        self._operations = operations
        self._operation = operation
        self._targets = {one.server: one for one in operation.targets}
        self._pulls: dict[str, PullProgress] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def whole(self) -> None:
        """Run the operation on every server that is not done, and keep the row up to date."""
        work = asyncio.gather(*[self._on(one.server) for one in self._operation.targets if one.state in _OPEN])
        store, operation_id = self._operations.store, self._operation.id
        cancelled = False
        try:
            while not work.done():
                await asyncio.wait([work], timeout=_SAVED_EVERY)
                cancelled = await self._saved(finished=False)
                if cancelled:
                    break
        except asyncio.CancelledError as reason:
            cancelled = bool(reason.args)
            if not cancelled:
                await _ended(work)
                with suppress(StorageUnavailable):
                    await store.leave(operation_id)
                raise
        await _ended(work)
        await self._saved(finished=True)
        _log.info("operation_finished", operation=operation_id, kind=self._operation.kind, cancelled=cancelled)

    async def _saved(self, *, finished: bool) -> bool:
        """Write the row; if `finished`, retry until that succeeds. Return whether the operation was cancelled."""
        while True:
            try:
                return await self._operations.store.save(
                    self._operation.id, self._now(finished=finished), finished=finished
                )
            except StorageUnavailable:
                if not finished:
                    return False
                await asyncio.sleep(_SAVED_EVERY)

    def _now(self, *, finished: bool) -> list[TargetProgress]:
        for server, pull in self._pulls.items():
            known = self._targets[server]
            self._targets[server] = replace(known, status=pull.status, completed=pull.completed, total=pull.total)
        if finished:
            for server, known in self._targets.items():
                if known.state in _OPEN:
                    self._targets[server] = replace(known, state="cancelled")
        return list(self._targets.values())

    async def _on(self, server: str) -> None:
        async with self._turn:
            self._targets[server] = replace(self._targets[server], state="running", error=None)
            progress = PullProgress()
            if self._operation.kind == "pull":
                self._pulls[server] = progress
            try:
                failed = await self._tried(server, progress)
            except RouterError as error:
                failed = error.message
            except Exception as error:  # noqa: BLE001 - other servers continue, and the row records the error
                _log.exception("operation_failed", operation=self._operation.id, server=server)
                failed = f"internal error: {type(error).__name__}"
            self._now(finished=False)
            known = self._targets[server]
            self._targets[server] = replace(known, state="failed" if failed else "done", error=failed)

    async def _tried(self, server: str, progress: PullProgress) -> str | None:
        if server not in self._operations.config.servers:
            return "the config has no such server any more"
        return await self._operations.perform(self._operation, server, progress)


_OPEN = frozenset({"waiting", "running"})


async def _ended(work: asyncio.Future[list[None]]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
